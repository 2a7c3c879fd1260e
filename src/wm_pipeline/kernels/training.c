/* The elementwise part of training V and M, each piece with its gradient in one pass over
   memory. Rows and frames are computed by themselves, so digits do not depend on how they
   are shared among threads. Compiled for the machine it runs on; see compiler.py. */

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
   (latent, mixtures); log deviations are kept within their range. Of a row, `weight`
   times the sum of -log p goes to the loss, and likewise the gradient. */
void mixture_loss(int64_t rows, int64_t latent, int64_t mixtures, int64_t stride,
                  const float *restrict outputs, const float *restrict targets,
                  const float *restrict weights, float least, float most,
                  float *restrict nll, float *restrict gradient) {
  const int64_t size = latent * mixtures;
  for (int64_t row = 0; row < rows; row++) {
    const float weight = weights[row];
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
        weights_sum[i] = weight / weights_sum[i];
        density_sum[i] = weight / density_sum[i];
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

/* How salient a pixel is, in [0, 1]: so many deviations of its own it lies from its mean
   in its worst channel, less `deviations`. */
static inline float degree_of(float red, float green, float blue, const float *mean,
                              const float *sharpness, float deviations) {
  float r = (red - mean[0]) * sharpness[0], g = (green - mean[1]) * sharpness[1],
        b = (blue - mean[2]) * sharpness[2];
  r = r < 0.0f ? -r : r;
  g = g < 0.0f ? -g : g;
  b = b < 0.0f ? -b : b;
  float most = r > g ? r : g;
  most = (most > b ? most : b) - deviations;
  most = most < 0.0f ? 0.0f : most;
  return most > 1.0f ? 1.0f : most;
}

/* Weights of salient pixels, (frames, SIDE, SIDE), of frames (frames, SIDE, SIDE, 3):
   `weight` times how salient a pixel is, shared with what is salient `around` it on
   either side. */
void salient_weights(int64_t frames, const uint8_t *restrict bytes,
                     const float *restrict mean, const float *restrict sharpness,
                     float deviations, int64_t around, float weight,
                     float *restrict weights) {
  float degrees[PIXELS], along[PIXELS], sums[SIDE];
  for (int64_t frame = 0; frame < frames; frame++) {
    const uint8_t *from = bytes + 3 * PIXELS * frame;
    float *to = weights + PIXELS * frame;
    for (int64_t i = 0; i < PIXELS; i++)
      degrees[i] = degree_of(from[3 * i] / 255.0f, from[3 * i + 1] / 255.0f,
                             from[3 * i + 2] / 255.0f, mean + 3 * i, sharpness + 3 * i,
                             deviations);
    /* Sums of the rows around each row, then of the columns around each column. */
    for (int64_t row = 0; row < SIDE; row++) {
      const int64_t first = row - around < 0 ? 0 : row - around,
                    last = row + around >= SIDE ? SIDE - 1 : row + around;
      for (int64_t i = 0; i < SIDE; i++) sums[i] = 0.0f;
      for (int64_t other = first; other <= last; other++)
        for (int64_t i = 0; i < SIDE; i++) sums[i] += degrees[other * SIDE + i];
      for (int64_t i = 0; i < SIDE; i++) along[i * SIDE + row] = sums[i];
    }
    for (int64_t column = 0; column < SIDE; column++) {
      const int64_t first = column - around < 0 ? 0 : column - around,
                    last = column + around >= SIDE ? SIDE - 1 : column + around;
      for (int64_t i = 0; i < SIDE; i++) sums[i] = 0.0f;
      for (int64_t other = first; other <= last; other++)
        for (int64_t i = 0; i < SIDE; i++) sums[i] += along[other * SIDE + i];
      for (int64_t i = 0; i < SIDE; i++) {
        const int64_t at = i * SIDE + column;
        to[at] = weight * degrees[at] / (sums[i] > 1.0f ? sums[i] : 1.0f);
      }
    }
  }
}

/* V's error and its gradient. The reconstruction is sigmoid(logits + image); a pixel's
   squared error weighs 1 and the greater of its weight and of `imagined` times how salient
   its reconstruction is. Of each frame, `sums` gets the error and the numbers of pixels
   that are salient, that are in the reconstruction, and in both. */
void pixel_error(int64_t frames, const uint8_t *restrict bytes,
                 const float *restrict weights, const float *restrict logits,
                 const float *restrict image, const float *restrict mean,
                 const float *restrict sharpness, float deviations, float imagined,
                 float scale, float *restrict gradient, float *restrict sums) {
  for (int64_t frame = 0; frame < frames; frame++) {
    float error[SIDE] = {0}, seen[SIDE] = {0}, shown[SIDE] = {0}, both[SIDE] = {0};
    for (int64_t row = 0; row < SIDE; row++)
      for (int64_t column = 0; column < SIDE; column++) {
        const int64_t i = row * SIDE + column, at = 3 * (PIXELS * frame + i);
        const float *m = mean + 3 * i, *s = sharpness + 3 * i;
        const float x0 = bytes[at] / 255.0f, x1 = bytes[at + 1] / 255.0f,
                    x2 = bytes[at + 2] / 255.0f;
        const float y0 = sigmoid_of(logits[at] + image[3 * i]),
                    y1 = sigmoid_of(logits[at + 1] + image[3 * i + 1]),
                    y2 = sigmoid_of(logits[at + 2] + image[3 * i + 2]);
        const float is = degree_of(x0, x1, x2, m, s, deviations),
                    looks = degree_of(y0, y1, y2, m, s, deviations);
        float w = imagined * looks;
        w = 1.0f + (w > weights[PIXELS * frame + i] ? w : weights[PIXELS * frame + i]);
        const float d0 = y0 - x0, d1 = y1 - x1, d2 = y2 - x2;
        const float of_seen = is >= 0.5f ? 1.0f : 0.0f,
                    of_shown = looks >= 0.5f ? 1.0f : 0.0f;
        error[column] += w * (d0 * d0 + d1 * d1 + d2 * d2);
        seen[column] += of_seen;
        shown[column] += of_shown;
        both[column] += of_seen * of_shown;
        const float g = 2.0f * scale * w;
        gradient[at] = g * d0 * y0 * (1.0f - y0);
        gradient[at + 1] = g * d1 * y1 * (1.0f - y1);
        gradient[at + 2] = g * d2 * y2 * (1.0f - y2);
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
