/* Elementary functions of floats, a few operations each, so that loops over them become
   vector instructions. None of them is exact to the last digit. */

#pragma once

#include <stdint.h>
#include <string.h>

/* tanh as an odd rational function, the minimax fit that numeric libraries share; below
   3e-7 from the true value everywhere. */
static inline float tanh_of(float x) {
  const float most = 7.90531110763549805f;
  x = x > most ? most : x;
  x = x < -most ? -most : x;
  const float s = x * x;
  float p = -2.76076847742355e-16f;
  p = p * s + 2.00018790482477e-13f;
  p = p * s - 8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  float q = 1.19825839466702e-06f;
  q = q * s + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return x * p / q;
}

static inline float sigmoid_of(float x) { return 0.5f + 0.5f * tanh_of(0.5f * x); }

/* exp for |x| < 80: a power of two times exp's Taylor polynomial on +-log(2)/2. */
static inline float exp_of(float x) {
  const float shifted = x * 1.44269504f + 12582912.0f; /* rounds to a whole number */
  const float whole = shifted - 12582912.0f;
  const float f = x - whole * 0.693359375f + whole * 2.12194440e-4f;
  float p = 1.0f / 5040.0f;
  p = p * f + 1.0f / 720.0f;
  p = p * f + 1.0f / 120.0f;
  p = p * f + 1.0f / 24.0f;
  p = p * f + 1.0f / 6.0f;
  p = p * f + 0.5f;
  p = p * f + 1.0f;
  p = p * f + 1.0f;
  uint32_t bits; /* of `shifted`: the last ones are those of `whole` */
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127) << 23; /* as an exponent */
  float power;
  memcpy(&power, &bits, sizeof power);
  return p * power;
}

/* log of a positive number: its exponent, and atanh's series of what is left, which is
   within a factor of sqrt(2) around 1. NaN stays NaN: bits alone would make 89 of it. */
static inline float log_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint32_t above = bits - 0x3f3504f3u; /* sqrt(1/2) */
  const int32_t exponent = (int32_t)above >> 23;
  bits = (above & 0x007fffffu) + 0x3f3504f3u;
  float left;
  memcpy(&left, &bits, sizeof left);
  const float s = (left - 1.0f) / (left + 1.0f), s2 = s * s;
  float p = 2.0f / 9.0f;
  p = p * s2 + 2.0f / 7.0f;
  p = p * s2 + 2.0f / 5.0f;
  p = p * s2 + 2.0f / 3.0f;
  p = p * s2 + 2.0f;
  const float log = s * p + (float)exponent * 0.693147181f;
  return x == x ? log : x;
}
