/* Elementwise work, each part in one pass over memory: the activations and draws of
   controllers, and the two halves of a dream's step.

   Every row is computed by itself and in one order, so a dream's digits do not depend on
   its batch. Compiled for the machine it runs on; see native.py. */

#include <stdint.h>
#include <string.h>

#define LATENT_MOST 1024

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

void tanh_in_place(int64_t count, float *values) {
  for (int64_t i = 0; i < count; i++) values[i] = tanh_of(values[i]);
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
  const int32_t exponent = ((int32_t)whole + 127) << 23;
  float power;
  memcpy(&power, &exponent, sizeof power);
  return p * power;
}

/* Draws from diagonal Gaussians: a row of `values` holds `size` means, then as many
   logarithms of deviations, which are kept within their range. Rows meet the `noises`
   rows of `normal` in turn, over and over. */
void gaussian_draws(int64_t rows, int64_t size, const float *restrict values,
                    int64_t noises, const float *restrict normal, float least,
                    float most, float *restrict draws) {
  for (int64_t row = 0; row < rows; row++) {
    const float *means = values + row * 2 * size, *logs = means + size;
    const float *noise = normal + row % noises * size;
    float *restrict out = draws + row * size;
    for (int64_t j = 0; j < size; j++) {
      float s = logs[j];
      s = s > most ? most : s;
      s = s < least ? least : s;
      out[j] = means[j] + exp_of(s) * noise[j];
    }
  }
}

/* The LSTM's gates (rows, 4 hidden: input, forget, new, output) to its next state: c
   (rows, hidden) in place, and h, whose rows are `stride` apart. */
void lstm_cell(int64_t rows, int64_t hidden, const float *restrict gates,
               float *restrict c, float *restrict h, int64_t stride) {
  for (int64_t row = 0; row < rows; row++) {
    const float *enter = gates + row * 4 * hidden;
    const float *forget = enter + hidden, *fresh = forget + hidden,
                *leave = fresh + hidden;
    float *restrict cell = c + row * hidden;
    float *restrict out = h + row * stride;
    for (int64_t j = 0; j < hidden; j++) {
      const float next = sigmoid_of(forget[j]) * cell[j] +
                         sigmoid_of(enter[j]) * tanh_of(fresh[j]);
      cell[j] = next;
      out[j] = sigmoid_of(leave[j]) * tanh_of(next);
    }
  }
}

/* The head's outputs to the next latent, the return so far and the end.

   A row of outputs (width apart) holds logits, means and log sigmas, each (mixtures,
   latent), then the reward and the logit of the end. Row r meets the noise of rollout
   which[r]: gumbel (rollouts, mixtures, latent), normal (rollouts, latent). */
void sample_step(int64_t rows, int64_t latent, int64_t mixtures,
                 const float *restrict outputs, int64_t width,
                 const float *restrict gumbel, const float *restrict normal,
                 const int64_t *restrict which, float inverse_temperature,
                 float root_temperature, float log_sigma_least, float log_sigma_most,
                 float reward_mean, float reward_scale, float reward_least,
                 float reward_most, float *restrict z, int64_t stride,
                 float *restrict returns, int64_t *restrict steps,
                 uint8_t *restrict alive) {
  const int64_t size = latent * mixtures;
  float highest[LATENT_MOST], mean[LATENT_MOST], log_sigma[LATENT_MOST];
  for (int64_t row = 0; row < rows; row++) {
    const float *logits = outputs + row * width;
    const float *means = logits + size, *log_sigmas = means + size;
    const float *g = gumbel + which[row] * size, *n = normal + which[row] * latent;
    for (int64_t j = 0; j < latent; j++) {
      highest[j] = logits[j] * inverse_temperature + g[j];
      mean[j] = means[j];
      log_sigma[j] = log_sigmas[j];
    }
    for (int64_t k = 1; k < mixtures; k++) {
      const int64_t from = k * latent;
      for (int64_t j = 0; j < latent; j++) {
        const float value = logits[from + j] * inverse_temperature + g[from + j];
        const int better = value > highest[j];
        highest[j] = better ? value : highest[j];
        mean[j] = better ? means[from + j] : mean[j];
        log_sigma[j] = better ? log_sigmas[from + j] : log_sigma[j];
      }
    }
    float *restrict out = z + row * stride;
    for (int64_t j = 0; j < latent; j++) {
      float s = log_sigma[j];
      s = s > log_sigma_most ? log_sigma_most : s;
      s = s < log_sigma_least ? log_sigma_least : s;
      out[j] = mean[j] + exp_of(s) * root_temperature * n[j];
    }
    if (alive[row]) {
      float reward = reward_mean + reward_scale * log_sigmas[size];
      reward = reward > reward_most ? reward_most : reward;
      reward = reward < reward_least ? reward_least : reward;
      returns[row] += reward;
      steps[row] += 1;
      alive[row] = !(log_sigmas[size + 1] > 0);
    }
  }
}
