/* The elementwise part of training V and M, each piece with its gradient in one pass over
   memory. One thread does it: those of torch wait for its products, and others would take
   their cores. Compiled for the machine it runs on; see compiler.py. */

#include "elementary.h"

/* A step of the LSTM. The gates (rows, 4 hidden: input, forget, cell, output) become
   their activations; c before it (rows, hidden) leads to c and h after it. */
void lstm_forward(int64_t rows, int64_t hidden, float *restrict gates,
                  const float *restrict before, float *restrict c, float *restrict h) {
  for (int64_t row = 0; row < rows; row++) {
    float *restrict input = gates + row * 4 * hidden, *restrict forget = input + hidden,
                    *restrict cell = forget + hidden, *restrict output = cell + hidden;
    for (int64_t j = 0, at = row * hidden; j < hidden; j++, at++) {
      input[j] = sigmoid_of(input[j]);
      forget[j] = sigmoid_of(forget[j]);
      cell[j] = tanh_of(cell[j]);
      output[j] = sigmoid_of(output[j]);
      c[at] = forget[j] * before[at] + input[j] * cell[j];
      h[at] = output[j] * tanh_of(c[at]);
    }
  }
}

/* Its gradient: the gates' activations become the gradients of what they were before.
   That of h comes in two parts, from the head and from the step after; that of c after
   the step becomes that of c before it. */
void lstm_backward(int64_t rows, int64_t hidden, float *restrict gates,
                   const float *restrict before, const float *restrict c,
                   const float *restrict from_head, const float *restrict from_after,
                   float *restrict c_gradient) {
  for (int64_t row = 0; row < rows; row++) {
    float *restrict input = gates + row * 4 * hidden, *restrict forget = input + hidden,
                    *restrict cell = forget + hidden, *restrict output = cell + hidden;
    for (int64_t j = 0, at = row * hidden; j < hidden; j++, at++) {
      const float i = input[j], f = forget[j], g = cell[j], o = output[j];
      const float t = tanh_of(c[at]), dh = from_head[at] + from_after[at];
      const float dc = c_gradient[at] + dh * o * (1.0f - t * t);
      input[j] = dc * g * i * (1.0f - i);
      forget[j] = dc * before[at] * f * (1.0f - f);
      cell[j] = dc * i * (1.0f - g * g);
      output[j] = dh * t * o * (1.0f - o);
      c_gradient[at] = dc * f;
    }
  }
}

enum { LANES = 16, MOST_MIXTURES = 64 };
typedef float lanes[LANES];

/* -log p of targets (rows, latent) under mixtures of Gaussians, and its gradient. A row
   of `outputs`, `stride` apart, holds mixture logits, means and log deviations, each
   (latent, mixtures); log deviations are kept within their range. */
void mixture_loss(int64_t rows, int64_t latent, int64_t mixtures, int64_t stride,
                  const float *restrict outputs, const float *restrict targets,
                  float least, float most, float *restrict nll,
                  float *restrict gradient) {
  const int64_t size = latent * mixtures;
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t first = 0; first < latent; first += LANES) {
      const int64_t count = latent - first < LANES ? latent - first : LANES;
      const float *from = outputs + row * stride + first * mixtures;
      float *to = gradient + row * stride + first * mixtures;
      lanes logits[MOST_MIXTURES], means[MOST_MIXTURES], logs[MOST_MIXTURES];
      lanes target = {0}, highest, peak, weights_sum = {0}, density_sum = {0};
      for (int64_t j = 0; j < mixtures; j++)
        for (int64_t i = 0; i < LANES; i++) {
          const int64_t at = (i < count ? i : 0) * mixtures + j;
          logits[j][i] = from[at];
          means[j][i] = from[size + at];
          logs[j][i] = from[2 * size + at];
        }
      for (int64_t i = 0; i < count; i++) target[i] = targets[row * latent + first + i];
      lanes standard[MOST_MIXTURES], shares[MOST_MIXTURES], sharpness[MOST_MIXTURES];
      for (int64_t i = 0; i < LANES; i++) highest[i] = peak[i] = -3e38f;
      for (int64_t j = 0; j < mixtures; j++)
        for (int64_t i = 0; i < LANES; i++) {
          float s = logs[j][i] < least ? least : logs[j][i];
          s = s > most ? most : s;
          sharpness[j][i] = exp_of(-s);
          standard[j][i] = (target[i] - means[j][i]) * sharpness[j][i];
          const float density =
              logits[j][i] - 0.5f * standard[j][i] * standard[j][i] - s;
          shares[j][i] = density;
          highest[i] = logits[j][i] > highest[i] ? logits[j][i] : highest[i];
          peak[i] = density > peak[i] ? density : peak[i];
        }
      for (int64_t j = 0; j < mixtures; j++)
        for (int64_t i = 0; i < LANES; i++) {
          const float low = logits[j][i] - highest[i], under = shares[j][i] - peak[i];
          logits[j][i] = exp_of(low < -80.0f ? -80.0f : low);
          shares[j][i] = exp_of(under < -80.0f ? -80.0f : under);
          weights_sum[i] += logits[j][i];
          density_sum[i] += shares[j][i];
        }
      lanes loss;
      for (int64_t i = 0; i < LANES; i++) {
        loss[i] = log_of(weights_sum[i]) + highest[i] - log_of(density_sum[i]) -
                  peak[i] + 0.918938533f;
        weights_sum[i] = 1.0f / weights_sum[i];
        density_sum[i] = 1.0f / density_sum[i];
      }
      for (int64_t i = 0; i < count; i++) nll[row * latent + first + i] = loss[i];
      for (int64_t j = 0; j < mixtures; j++) {
        lanes logit, mean, log;
        for (int64_t i = 0; i < LANES; i++) {
          const float share = shares[j][i] * density_sum[i];
          const int within = logs[j][i] >= least && logs[j][i] <= most;
          logit[i] = logits[j][i] * weights_sum[i] - share;
          mean[i] = -share * standard[j][i] * sharpness[j][i];
          log[i] = within ? share * (1.0f - standard[j][i] * standard[j][i]) : 0.0f;
        }
        for (int64_t i = 0; i < count; i++) {
          to[i * mixtures + j] = logit[i];
          to[size + i * mixtures + j] = mean[i];
          to[2 * size + i * mixtures + j] = log[i];
        }
      }
    }
  }
}

enum { SIDE = 64, PIXELS = SIDE * SIDE };

/* How salient a pixel is that is counted as seen. */
static const float SEEN = 1.0f;

typedef struct {
  const float *mean, *sharpness; /* of each number of a frame, (SIDE, SIDE, 3) */
  float least, most, weight, imagined;
  int64_t reach;
} salience;

/* How salient a pixel is: how far it lies from its mean in its worst channel, sharpened,
   less `least`, `most` at most; squared. */
static inline float degree_of(float red, float green, float blue, const float *mean,
                              const float *sharpness, float least, float most) {
  float r = (red - mean[0]) * sharpness[0], g = (green - mean[1]) * sharpness[1],
        b = (blue - mean[2]) * sharpness[2];
  r = r < 0.0f ? -r : r;
  g = g < 0.0f ? -g : g;
  b = b < 0.0f ? -b : b;
  float far = r > g ? r : g;
  far = (far > b ? far : b) - least;
  far = far < 0.0f ? 0.0f : far;
  far = far > most ? most : far;
  return far * far;
}

/* Sums of `values` within `reach` rows of each row; (row, column) goes to (column, row). */
static void sums_along(const float *restrict values, int64_t reach,
                       float *restrict turned) {
  for (int64_t row = 0; row < SIDE; row++) {
    const int64_t first = row - reach < 0 ? 0 : row - reach,
                  last = row + reach >= SIDE ? SIDE - 1 : row + reach;
    float sums[SIDE] = {0};
    for (int64_t other = first; other <= last; other++)
      for (int64_t i = 0; i < SIDE; i++) sums[i] += values[other * SIDE + i];
    for (int64_t i = 0; i < SIDE; i++) turned[i * SIDE + row] = sums[i];
  }
}

/* V's error and its gradient for frames (frames, SIDE, SIDE, 3) and the logits of their
   reconstructions. A pixel's squared error weighs 1 and the greater of two: `weight` times
   its share of what is salient within `reach` of it, and `imagined` times how salient its
   reconstruction is, 1 at most. Of each frame, `sums` gets the error and the numbers of
   pixels that are salient, that are in the reconstruction, and in both. */
void pixel_error(int64_t frames, const uint8_t *restrict bytes,
                 const float *restrict logits, const salience *options,
                 float *restrict gradient, float *restrict sums) {
  const salience o = *options;
  const float *restrict mean = o.mean, *restrict sharpness = o.sharpness;
  for (int64_t frame = 0; frame < frames; frame++) {
    float pixels[3 * PIXELS], degrees[PIXELS], along[PIXELS], around[PIXELS];
    const int64_t start = 3 * PIXELS * frame;
    for (int64_t i = 0; i < 3 * PIXELS; i++) pixels[i] = bytes[start + i] / 255.0f;
    for (int64_t i = 0; i < PIXELS; i++)
      degrees[i] = degree_of(pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2],
                             mean + 3 * i, sharpness + 3 * i, o.least, o.most);
    sums_along(degrees, o.reach, along);
    sums_along(along, o.reach, around);
    float error[SIDE] = {0}, seen[SIDE] = {0}, shown[SIDE] = {0}, both[SIDE] = {0};
    for (int64_t row = 0; row < SIDE; row++)
      for (int64_t column = 0; column < SIDE; column++) {
        const int64_t i = row * SIDE + column, at = start + 3 * i;
        const float y0 = sigmoid_of(logits[at]), y1 = sigmoid_of(logits[at + 1]),
                    y2 = sigmoid_of(logits[at + 2]);
        const float looks = degree_of(y0, y1, y2, mean + 3 * i, sharpness + 3 * i,
                                      o.least, o.most);
        const float crowd = around[i] > 1.0f ? around[i] : 1.0f;
        const float share = o.weight * degrees[i] / crowd,
                    imagined = o.imagined * (looks < 1.0f ? looks : 1.0f);
        const float w = 1.0f + (share > imagined ? share : imagined);
        const float d0 = y0 - pixels[3 * i], d1 = y1 - pixels[3 * i + 1],
                    d2 = y2 - pixels[3 * i + 2];
        const float of_seen = degrees[i] >= SEEN ? 1.0f : 0.0f,
                    of_shown = looks >= SEEN ? 1.0f : 0.0f;
        error[column] += w * (d0 * d0 + d1 * d1 + d2 * d2);
        seen[column] += of_seen;
        shown[column] += of_shown;
        both[column] += of_seen * of_shown;
        gradient[at] = 2.0f * w * d0 * y0 * (1.0f - y0);
        gradient[at + 1] = 2.0f * w * d1 * y1 * (1.0f - y1);
        gradient[at + 2] = 2.0f * w * d2 * y2 * (1.0f - y2);
      }
    float total[4] = {0};
    for (int64_t i = 0; i < SIDE; i++) {
      total[0] += error[i];
      total[1] += seen[i];
      total[2] += shown[i];
      total[3] += both[i];
    }
    memcpy(sums + 4 * frame, total, sizeof total);
  }
}
