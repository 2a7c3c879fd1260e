/* The elementwise part of training V and M, each piece with its gradient in one pass over
   memory. A call has one thread; a batch's parts are called side by side. Compiled for the
   machine it runs on; see compiler.py. */

#include "elementary.h"

enum { PLACES = 16, MOST_MIXTURES = 64 };
typedef float places[PLACES]; /* of a latent, side by side */

/* -log p of targets (rows, latent) under mixtures of Gaussians, and its gradient. A row
   of `outputs`, `stride` apart, holds mixture logits, means and log deviations, each
   (latent, mixtures); log deviations are kept within their range. */
void mixture_loss(int64_t rows, int64_t latent, int64_t mixtures, int64_t stride,
                  const float *restrict outputs, const float *restrict targets,
                  float least, float most, float *restrict nll,
                  float *restrict gradient) {
  const int64_t size = latent * mixtures;
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t first = 0; first < latent; first += PLACES) {
      const int64_t count = latent - first < PLACES ? latent - first : PLACES;
      const float *from = outputs + row * stride + first * mixtures;
      float *to = gradient + row * stride + first * mixtures;
      places logits[MOST_MIXTURES], means[MOST_MIXTURES], logs[MOST_MIXTURES];
      places target = {0}, highest, peak, weights_sum = {0}, density_sum = {0};
      for (int64_t j = 0; j < mixtures; j++)
        for (int64_t i = 0; i < PLACES; i++) {
          const int64_t at = (i < count ? i : 0) * mixtures + j;
          logits[j][i] = from[at];
          means[j][i] = from[size + at];
          logs[j][i] = from[2 * size + at];
        }
      for (int64_t i = 0; i < count; i++) target[i] = targets[row * latent + first + i];
      places standard[MOST_MIXTURES], shares[MOST_MIXTURES], sharpness[MOST_MIXTURES];
      for (int64_t i = 0; i < PLACES; i++) highest[i] = peak[i] = -3e38f;
      for (int64_t j = 0; j < mixtures; j++)
        for (int64_t i = 0; i < PLACES; i++) {
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
        for (int64_t i = 0; i < PLACES; i++) {
          const float low = logits[j][i] - highest[i], under = shares[j][i] - peak[i];
          logits[j][i] = exp_of(low < -80.0f ? -80.0f : low);
          shares[j][i] = exp_of(under < -80.0f ? -80.0f : under);
          weights_sum[i] += logits[j][i];
          density_sum[i] += shares[j][i];
        }
      places loss;
      for (int64_t i = 0; i < PLACES; i++) {
        loss[i] = log_of(weights_sum[i]) + highest[i] - log_of(density_sum[i]) -
                  peak[i] + 0.918938533f;
        weights_sum[i] = 1.0f / weights_sum[i];
        density_sum[i] = 1.0f / density_sum[i];
      }
      for (int64_t i = 0; i < count; i++) nll[row * latent + first + i] = loss[i];
      for (int64_t j = 0; j < mixtures; j++) {
        places logit, mean, log;
        for (int64_t i = 0; i < PLACES; i++) {
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

/* One Gaussian of a joint mixture: its share of `terms`, to be summed, and what its
   gradients are but for the Gaussian's share. */
static inline void gaussian_terms(int64_t count, const float *restrict target,
                                  const float *restrict means,
                                  const float *restrict logs, float least, float most,
                                  float *restrict to_means, float *restrict to_logs,
                                  float *restrict terms) {
  for (int64_t i = 0; i < count; i++) {
    float s = logs[i] < least ? least : logs[i];
    s = s > most ? most : s;
    const float sharpness = exp_of(-s), standard = (target[i] - means[i]) * sharpness;
    const int within = logs[i] >= least && logs[i] <= most;
    terms[i] += 0.5f * standard * standard + s;
    to_means[i] = -standard * sharpness;
    to_logs[i] = within ? 1.0f - standard * standard : 0.0f;
  }
}

/* -log p of targets (rows, latent) under joint mixtures of diagonal Gaussians, a mean over
   the latent's places, (rows,); and its gradient. A row of `outputs`, `stride` apart, holds
   mixture logits (mixtures), then means and log deviations, each (mixtures, latent). */
void joint_mixture_loss(int64_t rows, int64_t latent, int64_t mixtures, int64_t stride,
                        const float *restrict outputs, const float *restrict targets,
                        float least, float most, float *restrict nll,
                        float *restrict gradient) {
  const int64_t size = latent * mixtures;
  const float each = 1.0f / latent;
  for (int64_t row = 0; row < rows; row++) {
    const float *from = outputs + row * stride, *means = from + mixtures;
    float *to = gradient + row * stride, *to_means = to + mixtures;
    float densities[MOST_MIXTURES], highest = -3e38f, peak = -3e38f;
    for (int64_t k = 0; k < mixtures; k++) {
      places terms = {0};
      for (int64_t first = 0; first < latent; first += PLACES) {
        const int64_t at = k * latent + first;
        gaussian_terms(latent - first < PLACES ? latent - first : PLACES,
                       targets + row * latent + first, means + at, means + size + at,
                       least, most, to_means + at, to_means + size + at, terms);
      }
      densities[k] = from[k];
      for (int64_t i = 0; i < PLACES; i++) densities[k] -= terms[i];
      highest = from[k] > highest ? from[k] : highest;
      peak = densities[k] > peak ? densities[k] : peak;
    }
    float weights_sum = 0.0f, density_sum = 0.0f;
    for (int64_t k = 0; k < mixtures; k++) {
      const float low = from[k] - highest, under = densities[k] - peak;
      to[k] = exp_of(low < -80.0f ? -80.0f : low);
      densities[k] = exp_of(under < -80.0f ? -80.0f : under);
      weights_sum += to[k];
      density_sum += densities[k];
    }
    nll[row] =
        (log_of(weights_sum) + highest - log_of(density_sum) - peak) * each +
        0.918938533f;
    for (int64_t k = 0; k < mixtures; k++) {
      const float share = densities[k] / density_sum;
      to[k] = (to[k] / weights_sum - share) * each;
      for (int64_t i = 0; i < latent; i++) to_means[k * latent + i] *= share * each;
      for (int64_t i = 0; i < latent; i++)
        to_means[size + k * latent + i] *= share * each;
    }
  }
}

/* The gradient of mixture_loss, multiplied by that of each -log p (rows, latent). */
void mixture_scale(int64_t rows, int64_t latent, int64_t mixtures, int64_t stride,
                   const float *restrict by_nll, float *restrict gradient) {
  for (int64_t row = 0; row < rows; row++)
    for (int64_t part = 0; part < 3; part++) {
      float *restrict of = gradient + row * stride + part * latent * mixtures;
      for (int64_t i = 0; i < latent; i++)
        for (int64_t j = 0; j < mixtures; j++)
          of[i * mixtures + j] *= by_nll[row * latent + i];
    }
}

enum { SIDE = 64, PIXELS = SIDE * SIDE, ROW = 3 * SIDE };

/* How salient a pixel is that is counted as seen. */
static const float SEEN = 1.0f;

typedef struct {
  const float *mean, *sharpness; /* of each number of a frame, (SIDE, SIDE, 3) */
  float least, most, weight, imagined, together;
  int64_t reach;
} salience;

/* How salient a row's pixels are: how far each lies from its mean in its worst channel,
   sharpened, less `least`, `most` at most; squared. */
static inline void row_degrees(const float *restrict pixels, const float *restrict mean,
                               const float *restrict sharpness, float least, float most,
                               float *restrict degrees) {
  float far[ROW];
  for (int64_t i = 0; i < ROW; i++) {
    const float distance = (pixels[i] - mean[i]) * sharpness[i];
    far[i] = distance < 0.0f ? -distance : distance;
  }
  for (int64_t i = 0; i < SIDE; i++) {
    float worst = far[3 * i] > far[3 * i + 1] ? far[3 * i] : far[3 * i + 1];
    worst = (far[3 * i + 2] > worst ? far[3 * i + 2] : worst) - least;
    worst = worst < 0.0f ? 0.0f : worst;
    worst = worst > most ? most : worst;
    degrees[i] = worst * worst;
  }
}

/* Sums over the square of `values` (SIDE, SIDE) within `reach` of each. */
static void sums_around(const float *restrict values, int64_t reach,
                        float *restrict sums) {
  for (int64_t row = 0; row < SIDE; row++) {
    const int64_t first = row - reach < 0 ? 0 : row - reach,
                  last = row + reach >= SIDE ? SIDE - 1 : row + reach;
    float above[3 * SIDE] = {0}, *column = above + SIDE;
    for (int64_t other = first; other <= last; other++)
      for (int64_t i = 0; i < SIDE; i++) column[i] += values[other * SIDE + i];
    float around[SIDE] = {0};
    for (int64_t away = -reach; away <= reach; away++)
      for (int64_t i = 0; i < SIDE; i++) around[i] += column[i + away];
    memcpy(sums + row * SIDE, around, sizeof around);
  }
}

/* V's error and its gradients. A frame (SIDE, SIDE, 3) of bytes is compared with `still`
   plus the decoder's outputs, which come in patches: (frames, SIDE / patch, SIDE / patch,
   patch, patch, 3). A pixel's squared error weighs 1 and the greater of two: `weight`
   times its share of what is salient within `reach` of it, but `together` times that in
   the whole frame at most; and `imagined` times how salient its reconstruction is, 1 at
   most. Of each frame, `sums` gets the error and the numbers of pixels that are salient,
   that are in the reconstruction, and in both. The gradient of `still` is that of all
   frames together. */
static inline __attribute__((always_inline)) void
error_of(int64_t frames, const uint8_t *restrict bytes, int64_t patch,
         const float *restrict outputs, const float *restrict still,
         const salience *options, float *restrict gradient,
         float *restrict still_gradient, float *restrict sums) {
  const salience o = *options;
  const float *restrict mean = o.mean, *restrict sharpness = o.sharpness;
  const int64_t patches = SIDE / patch, length = 3 * patch;
  memset(still_gradient, 0, 3 * PIXELS * sizeof *still_gradient);
  for (int64_t frame = 0; frame < frames; frame++) {
    float pixels[3 * PIXELS], degrees[PIXELS], shares[PIXELS], total_share = 0.0f;
    for (int64_t i = 0; i < 3 * PIXELS; i++)
      pixels[i] = bytes[3 * PIXELS * frame + i] * (1.0f / 255.0f);
    for (int64_t row = 0; row < SIDE; row++)
      row_degrees(pixels + row * ROW, mean + row * ROW, sharpness + row * ROW, o.least,
                  o.most, degrees + row * SIDE);
    sums_around(degrees, o.reach, shares);
    float share_sums[SIDE] = {0};
    for (int64_t row = 0; row < SIDE; row++)
      for (int64_t i = row * SIDE, j = 0; j < SIDE; i++, j++) {
        shares[i] = degrees[i] / (shares[i] > 1.0f ? shares[i] : 1.0f);
        share_sums[j] += shares[i];
      }
    for (int64_t i = 0; i < SIDE; i++) total_share += share_sums[i];
    const float of_share =
        o.weight * (total_share > o.together ? o.together / total_share : 1.0f);
    float error[ROW] = {0}, seen[SIDE] = {0}, shown[SIDE] = {0}, both[SIDE] = {0};
    for (int64_t row = 0; row < SIDE; row++) {
      /* Where the row begins in its first patch; in each next one it is `step` on. */
      const int64_t step = patch * length;
      const int64_t start = 3 * PIXELS * frame + row / patch * patches * step +
                            row % patch * length;
      float decoded[ROW], looks[SIDE], weights[ROW], slopes[ROW];
      for (int64_t i = 0; i < patches; i++)
        for (int64_t j = 0; j < length; j++)
          decoded[i * length + j] = outputs[start + i * step + j];
      for (int64_t i = 0; i < ROW; i++)
        decoded[i] = sigmoid_of(decoded[i] + still[row * ROW + i]);
      row_degrees(decoded, mean + row * ROW, sharpness + row * ROW, o.least, o.most,
                  looks);
      const float *restrict degree = degrees + row * SIDE,
                            *restrict part = shares + row * SIDE;
      for (int64_t i = 0; i < SIDE; i++) {
        const float share = of_share * part[i],
                    imagined = o.imagined * (looks[i] < 1.0f ? looks[i] : 1.0f);
        const float weight = 1.0f + (share > imagined ? share : imagined);
        weights[3 * i] = weights[3 * i + 1] = weights[3 * i + 2] = weight;
        const float of_seen = degree[i] >= SEEN ? 1.0f : 0.0f,
                    of_shown = looks[i] >= SEEN ? 1.0f : 0.0f;
        seen[i] += of_seen;
        shown[i] += of_shown;
        both[i] += of_seen * of_shown;
      }
      for (int64_t i = 0; i < ROW; i++) {
        const float y = decoded[i], distance = y - pixels[row * ROW + i];
        error[i] += weights[i] * distance * distance;
        slopes[i] = 2.0f * weights[i] * distance * y * (1.0f - y);
        still_gradient[row * ROW + i] += slopes[i];
      }
      for (int64_t i = 0; i < patches; i++)
        for (int64_t j = 0; j < length; j++)
          gradient[start + i * step + j] = slopes[i * length + j];
    }
    float total[4] = {0};
    for (int64_t i = 0; i < ROW; i++) total[0] += error[i];
    for (int64_t i = 0; i < SIDE; i++) {
      total[1] += seen[i];
      total[2] += shown[i];
      total[3] += both[i];
    }
    memcpy(sums + 4 * frame, total, sizeof total);
  }
}

void pixel_error(int64_t frames, const uint8_t *bytes, int64_t patch,
                 const float *outputs, const float *still, const salience *options,
                 float *gradient, float *still_gradient, float *sums) {
  /* The compiler makes other code for patches whose size it knows: 1.2 times as fast. */
  if (patch == 4)
    error_of(frames, bytes, 4, outputs, still, options, gradient, still_gradient, sums);
  else
    error_of(frames, bytes, patch, outputs, still, options, gradient, still_gradient,
             sums);
}
