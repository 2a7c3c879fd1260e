/* The elementwise part of a dream's step, each half in one pass over memory: the LSTM's
   cell, and sampling with the means and deviations it needs. Also the activations and
   draws of controllers, and frames as V reads them.

   Every row is computed by itself and in one order, so a dream's digits do not depend on
   its batch. Compiled for the machine it runs on; see compiler.py. */

#include "elementary.h"
#include "lanes.h"

void tanh_in_place(int64_t count, float *values) {
  for (int64_t i = 0; i < count; i++) values[i] = tanh_of(values[i]);
}

/* Bytes as numbers from 0 to 1. */
void pixels_of(int64_t count, const uint8_t *restrict bytes, float *restrict pixels) {
  for (int64_t i = 0; i < count; i++) pixels[i] = bytes[i] / 255.0f;
}

/* Draws from diagonal Gaussians: a row of `values` holds `size` means, then as many
   logarithms of deviations, which are kept within their range and then multiplied by
   `scale`. Rows meet the `noises` rows of `normal` in turn, over and over. */
void gaussian_draws(int64_t rows, int64_t size, const float *restrict values,
                    int64_t noises, const float *restrict normal, float least,
                    float most, float scale, float *restrict draws) {
  for (int64_t row = 0; row < rows; row++) {
    const float *means = values + row * 2 * size, *logs = means + size;
    const float *noise = normal + row % noises * size;
    float *restrict out = draws + row * size;
    for (int64_t j = 0; j < size; j++) {
      float s = logs[j];
      s = s > most ? most : s;
      s = s < least ? least : s;
      out[j] = means[j] + exp_of(s) * scale * noise[j];
    }
  }
}

/* The LSTM's gates (rows, 4 hidden: input, forget, cell, output) to its next state: c
   (rows, hidden) in place, and h, whose rows are `stride` apart. */
void lstm_cell(int64_t rows, int64_t hidden, const float *restrict gates,
               float *restrict c, float *restrict h, int64_t stride) {
  for (int64_t row = 0; row < rows; row++) {
    const float *input = gates + row * 4 * hidden;
    const float *forget = input + hidden, *cell = forget + hidden,
                *output = cell + hidden;
    float *restrict c_row = c + row * hidden;
    float *restrict h_row = h + row * stride;
    for (int64_t j = 0; j < hidden; j++) {
      const float next = sigmoid_of(forget[j]) * c_row[j] +
                         sigmoid_of(input[j]) * tanh_of(cell[j]);
      c_row[j] = next;
      h_row[j] = sigmoid_of(output[j]) * tanh_of(next);
    }
  }
}

#define PLACES (LANES / 4) /* of a latent, whose Gaussians are computed together */

typedef int32_t indices __attribute__((vector_size(LANES * sizeof(int32_t))));

/* Sums of neighbours: of a in the first half, of b in the second. */
static inline lanes neighbour_sums(lanes a, lanes b) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, EVEN) + __builtin_shufflevector(a, b, ODD);
#else
  return __builtin_shuffle(a, b, (indices){EVEN}) +
         __builtin_shuffle(a, b, (indices){ODD});
#endif
}

/* h times PLACES pairs of weights, each two rows of `hidden`, a multiple of LANES. The
   first half of what is returned holds the products, pair after pair. */
static inline lanes pair_products(int64_t hidden, const float *h,
                                  const float *const *pairs) {
  lanes sums[2 * PLACES] = {{0}};
  for (int64_t j = 0; j < hidden; j += LANES) {
    const lanes values = load(h + j);
#pragma GCC unroll 4
    for (int i = 0; i < PLACES; i++) {
      sums[2 * i] += load(pairs[i] + j) * values;
      sums[2 * i + 1] += load(pairs[i] + hidden + j) * values;
    }
  }
#pragma GCC unroll 3
  for (int count = PLACES; count; count /= 2)
#pragma GCC unroll 4
    for (int i = 0; i < count; i++)
      sums[i] = neighbour_sums(sums[2 * i], sums[2 * i + 1]);
  return neighbour_sums(sums[0], sums[0]);
}

/* Which Gaussian each place of a latent is drawn from; the first of equals. */
static inline void choose(int64_t latent, int64_t mixtures, const float *logits,
                          const float *gumbel, float inverse_temperature,
                          float *restrict highest, int32_t *restrict chosen) {
  for (int64_t j = 0; j < latent; j++) {
    highest[j] = logits[j] * inverse_temperature + gumbel[j];
    chosen[j] = 0;
  }
  for (int32_t k = 1; k < mixtures; k++) {
    logits += latent;
    gumbel += latent;
    for (int64_t j = 0; j < latent; j++) {
      const float value = logits[j] * inverse_temperature + gumbel[j];
      const int better = value > highest[j];
      highest[j] = better ? value : highest[j];
      chosen[j] = better ? k : chosen[j];
    }
  }
}

/* What sample_step reads and changes; native.py has the same fields in the same order.

   A row of `outputs`, `outputs_stride` apart, holds logits (mixtures, choices), the reward
   and the logit of the end. There is a choice a place of the latent, or one for all of
   them. Dream r meets the noise of rollout which[r]: gumbel (rollouts, mixtures, choices)
   and normal (rollouts, latent). The Gaussians' weights are (latent, mixtures, 2, padded)
   and their biases (latent, mixtures, 2), of a mean and a log deviation each; with one
   choice for all, the mixtures come before the latent. In a row of x, `x_stride` apart, z
   comes first and then h.

   `block` dreams at a time go through the weights, while they are in the cache. There is
   room for their h, with zeros behind it, (block, padded), for what is chosen (block,
   latent) and for the chosen Gaussians (block, 2, latent). */
typedef struct {
  int64_t latent, mixtures, choices, hidden, padded, block;
  const float *weights, *biases;
  float *h;
  int32_t *chosen;
  float *gaussians;
  float reward_mean, reward_scale, reward_least, reward_most;
  float log_sigma_least, log_sigma_most;
  int64_t dreams, outputs_stride, x_stride;
  const float *outputs, *gumbel, *normal;
  const int64_t *which;
  float inverse_temperature, root_temperature;
  float *x, *returns;
  int64_t *steps;
  uint8_t *alive;
} sample_step_arguments;

const int64_t sample_step_arguments_size = sizeof(sample_step_arguments);

/* From h and the head's outputs to the next latent, the return so far and the end. Means
   and deviations are computed of the chosen Gaussians only. */
void sample_step(const sample_step_arguments *arguments) {
  const sample_step_arguments a = *arguments;
  const float *restrict outputs = a.outputs, *restrict weights = a.weights,
                       *restrict biases = a.biases, *restrict gumbel = a.gumbel,
                       *restrict normal = a.normal;
  const int64_t *restrict which = a.which;
  float *restrict x = a.x, *restrict returns = a.returns, *restrict h = a.h,
                 *restrict gaussians = a.gaussians;
  int64_t *restrict steps = a.steps;
  uint8_t *restrict alive = a.alive;
  int32_t *restrict chosen = a.chosen;
  const int64_t latent = a.latent, mixtures = a.mixtures, padded = a.padded;
  const int64_t choices = a.choices, size = choices * mixtures;
  const int64_t joint = choices < latent;
  /* From a place's Gaussians to the next place's, and from one to the next. */
  const int64_t by_place = joint ? 1 : mixtures, by_choice = joint ? latent : 1;
  for (int64_t first = 0; first < a.dreams; first += a.block) {
    const int64_t count = a.dreams - first < a.block ? a.dreams - first : a.block;
    for (int64_t i = 0; i < count; i++) {
      const int64_t row = first + i;
      /* Gaussians come later; until then there is room for the highest. */
      choose(choices, mixtures, outputs + row * a.outputs_stride,
             gumbel + which[row] * size, a.inverse_temperature, gaussians,
             chosen + i * latent);
      for (int64_t j = choices; j < latent; j++)
        chosen[i * latent + j] = chosen[i * latent];
      memcpy(h + i * padded, x + row * a.x_stride + latent, a.hidden * sizeof(float));
    }
    for (int64_t j = 0; j < latent; j += PLACES) {
      for (int64_t i = 0; i < count; i++) {
        const float *pairs[PLACES], *pair_biases[PLACES];
        for (int p = 0; p < PLACES; p++) {
          const int64_t place = j + p < latent ? j + p : latent - 1;
          const int64_t pair =
              place * by_place + chosen[i * latent + place] * by_choice;
          pairs[p] = weights + pair * 2 * padded;
          pair_biases[p] = biases + pair * 2;
        }
        const lanes products = pair_products(padded, h + i * padded, pairs);
        float *means = gaussians + i * 2 * latent + j, *log_sigmas = means + latent;
        for (int p = 0; p < PLACES && j + p < latent; p++) {
          means[p] = products[2 * p] + pair_biases[p][0];
          log_sigmas[p] = products[2 * p + 1] + pair_biases[p][1];
        }
      }
    }
    for (int64_t i = 0; i < count; i++) {
      const int64_t row = first + i;
      gaussian_draws(1, latent, gaussians + i * 2 * latent, 1,
                     normal + which[row] * latent, a.log_sigma_least,
                     a.log_sigma_most, a.root_temperature, x + row * a.x_stride);
      if (alive[row]) {
        const float *outcome = outputs + row * a.outputs_stride + size;
        float reward = a.reward_mean + a.reward_scale * outcome[0];
        reward = reward > a.reward_most ? a.reward_most : reward;
        reward = reward < a.reward_least ? a.reward_least : reward;
        returns[row] += reward;
        steps[row] += 1;
        alive[row] = !(outcome[1] > 0);
      }
    }
  }
}
