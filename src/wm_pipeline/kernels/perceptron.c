/* A controller in one call: the layers' products, tanh between them, and draws.

   A block of rows goes through all layers, so what lies between them stays in the first
   cache. Every output is one sum in one order, whatever the size of its row's block, so a
   row's digits do not depend on its batch. Compiled for the machine it runs on; see
   compiler.py. */

#include "elementary.h"
#include "lanes.h"

/* Rows that go through the layers together, as many as the registers hold; where fewer are
   left, FEW of them, and then one at a time. */
#if LANES == 16
#define BLOCK 12
#else
#define BLOCK 6
#endif
#define FEW 4

const int64_t perceptron_lanes = LANES, perceptron_block = BLOCK;

/* Rows of input, `stride` apart, of `size` numbers each. */
typedef struct {
  const float *values;
  int64_t stride, size;
} part;

/* `count` rows times `panels` panels of weights. A panel is (1 + features, LANES), biases
   first; the next one lies `panel` numbers behind it, and its results LANES behind. */
static inline __attribute__((always_inline)) void
products(int count, int panels, int64_t parts, const part *inputs, int64_t row,
         const float *weights, int64_t panel, float *to, int64_t stride) {
  const float *more = weights + (panels - 1) * panel;
  lanes sums[BLOCK], others[BLOCK];
#pragma GCC unroll 12
  for (int i = 0; i < count; i++) {
    sums[i] = load(weights);
    others[i] = load(more);
  }
  for (int64_t n = 0; n < parts; n++) {
    const int64_t apart = inputs[n].stride;
    const float *from = inputs[n].values + row * apart;
#pragma GCC unroll 2
    for (int64_t k = 0; k < inputs[n].size; k++) {
      weights += LANES;
      more += LANES;
      const lanes one = load(weights), two = load(more);
#pragma GCC unroll 12
      for (int i = 0; i < count; i++) {
        sums[i] += from[i * apart + k] * one;
        if (panels == 2) others[i] += from[i * apart + k] * two;
      }
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < count; i++) {
    memcpy(to + i * stride, &sums[i], sizeof(lanes));
    if (panels == 2) memcpy(to + i * stride + LANES, &others[i], sizeof(lanes));
  }
}

/* A layer of `width` outputs, a multiple of LANES, for `count` rows. Returns where its
   weights end. */
static inline __attribute__((always_inline)) const float *
layer(int count, int64_t parts, const part *inputs, int64_t row, int64_t width,
      const float *weights, float *to) {
  int64_t panel = LANES;
  for (int64_t n = 0; n < parts; n++) panel += inputs[n].size * LANES;
  int64_t j = 0;
  for (; j + 2 * LANES <= width; j += 2 * LANES, weights += 2 * panel)
    products(count, 2, parts, inputs, row, weights, panel, to + j, width);
  if (j == width) return weights;
  products(count, 1, parts, inputs, row, weights, panel, to + j, width);
  return weights + panel;
}

/* The last layer's results (count, width), of which the first `outputs` are means and as
   many after them logarithms of deviations, to draws (count, outputs). */
static inline void draw(int64_t count, int64_t width, int64_t outputs,
                        const float *restrict values, const float *restrict normal,
                        float least, float most, float *restrict deviations,
                        float *restrict to) {
  for (int64_t i = 0; i < count * width; i++) { /* all of them: these are vectors */
    float s = values[i];
    s = s > most ? most : s;
    s = s < least ? least : s;
    deviations[i] = exp_of(s);
  }
  for (int64_t i = 0; i < count; i++)
    for (int64_t j = 0; j < outputs; j++)
      to[i * outputs + j] = values[i * width + j] + deviations[i * width + outputs + j] *
                                                        normal[i * outputs + j];
}

/* Outputs (rows, outputs) of a perceptron. The input's rows come in `parts`. Layer l gives
   widths[l] numbers, a multiple of LANES, and tanh of them is the next one's input;
   `weights` holds the layers' panels, one after another. There is `room` for (2, BLOCK,
   widest) numbers. With noise `normal` (rows, outputs) the outputs are drawn; without it
   they are the first numbers of the last layer. */
void perceptron(int64_t rows, int64_t parts, const part *inputs, int64_t layers,
                const int64_t *widths, int64_t widest, const float *weights,
                int64_t outputs, const float *normal, float least, float most,
                float *room, float *to) {
  const int64_t last = widths[layers - 1];
  for (int64_t row = 0, count; row < rows; row += count) {
    count = rows - row >= BLOCK ? BLOCK : rows - row >= FEW ? FEW : 1;
    float *values = room, *others = room + BLOCK * widest;
    const float *some = weights;
    for (int64_t l = 0; l < layers; l++) {
      const part hidden = {others, l ? widths[l - 1] : 0, l ? widths[l - 1] : 0};
      const part *from = l ? &hidden : inputs;
      const int64_t many = l ? 1 : parts, first = l ? 0 : row;
      switch (count) {
      case BLOCK: some = layer(BLOCK, many, from, first, widths[l], some, values); break;
      case FEW: some = layer(FEW, many, from, first, widths[l], some, values); break;
      default: some = layer(1, many, from, first, widths[l], some, values);
      }
      if (l + 1 == layers) break;
      for (int64_t i = 0; i < count * widths[l]; i++) values[i] = tanh_of(values[i]);
      float *const read = others;
      others = values;
      values = read;
    }
    if (normal != NULL)
      draw(count, last, outputs, values, normal + row * outputs, least, most, others,
           to + row * outputs);
    else
      for (int64_t i = 0; i < count; i++)
        memcpy(to + (row + i) * outputs, values + i * last, outputs * sizeof *to);
  }
}
