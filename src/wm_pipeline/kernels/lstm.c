/* An LSTM over sequences, and its gradient: each step's product and what is between
   products. One call for all steps, so that threads of Python need not take turns; the
   weights stay in the cache. Compiled for the machine it runs on; see compiler.py. */

#include "elementary.h"
#include "lanes.h"
#include "tiles.h"

#ifdef __AVX512F__
#define WIDE 4
#else
#define WIDE 2
#endif
#define PANEL (WIDE * LANES) /* columns of weights that are computed together */
#define ROWS 6               /* of a batch, likewise: as many sums as registers hold */

/* Columns of weights as they are packed. */
static int64_t padded(int64_t outputs) { return (outputs + PANEL - 1) / PANEL * PANEL; }

/* Weights (inputs, outputs) in panels (panels, inputs, PANEL), zeros behind the last. */
static void pack(matrix weights, float *restrict panels) {
  for (int64_t first = 0; first < weights.columns; first += PANEL) {
    const int64_t left = weights.columns - first, count = left < PANEL ? left : PANEL;
    for (int64_t i = 0; i < weights.rows; i++, panels += PANEL) {
      const float *from =
          weights.numbers + i * weights.by_row + first * weights.by_column;
      for (int64_t j = 0; j < count; j++) panels[j] = from[j * weights.by_column];
      memset(panels + count, 0, (PANEL - count) * sizeof *panels);
    }
  }
}

/* Products of some rows (rows, inputs) with a panel, added to `count` columns of `to`. */
static inline __attribute__((always_inline)) void
panel_products(int rows, int64_t inputs, const float *restrict values,
               const float *restrict panel, int64_t count, float *restrict to,
               int64_t stride) {
  lanes sums[ROWS][WIDE] = {{{0}}};
  for (int64_t i = 0; i < inputs; i++) {
    lanes weights[WIDE];
#pragma GCC unroll 4
    for (int part = 0; part < WIDE; part++)
      weights[part] = load(panel + i * PANEL + part * LANES);
#pragma GCC unroll 6
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 4
      for (int part = 0; part < WIDE; part++)
        sums[row][part] += values[row * inputs + i] * weights[part];
  }
  for (int row = 0; row < rows; row++) {
    float found[PANEL];
    memcpy(found, sums[row], sizeof found);
    for (int64_t column = 0; column < count; column++)
      to[row * stride + column] += found[column];
  }
}

/* Products of rows (rows, inputs) with packed weights, added to `to` (rows, outputs). */
static void products(int64_t rows, int64_t inputs, int64_t outputs,
                     const float *restrict values, const float *restrict panels,
                     float *restrict to) {
  for (int64_t first = 0; first < outputs; first += PANEL) {
    const int64_t count = outputs - first < PANEL ? outputs - first : PANEL;
    const float *panel = panels + first * inputs;
    int64_t row = 0;
    for (; row + ROWS <= rows; row += ROWS)
      panel_products(ROWS, inputs, values + row * inputs, panel, count,
                     to + row * outputs + first, outputs);
    for (; row < rows; row++)
      panel_products(1, inputs, values + row * inputs, panel, count,
                     to + row * outputs + first, outputs);
  }
}

/* A step behind its products. The gates (rows, 4 hidden: input, forget, cell, output)
   become their activations; c before it (rows, hidden) leads to c and h after it. */
static void cell_forward(int64_t rows, int64_t hidden, float *restrict gates,
                         const float *restrict before, float *restrict c,
                         float *restrict h) {
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
static void cell_backward(int64_t rows, int64_t hidden, float *restrict gates,
                          const float *restrict before, const float *restrict c,
                          const float *restrict from_head,
                          const float *restrict from_after, float *restrict by_c) {
  for (int64_t row = 0; row < rows; row++) {
    float *restrict input = gates + row * 4 * hidden, *restrict forget = input + hidden,
                    *restrict cell = forget + hidden, *restrict output = cell + hidden;
    for (int64_t j = 0, at = row * hidden; j < hidden; j++, at++) {
      const float i = input[j], f = forget[j], g = cell[j], o = output[j];
      const float t = tanh_of(c[at]), dh = from_head[at] + from_after[at];
      const float dc = by_c[at] + dh * o * (1.0f - t * t);
      input[j] = dc * g * i * (1.0f - i);
      forget[j] = dc * before[at] * f * (1.0f - f);
      cell[j] = dc * i * (1.0f - g * g);
      output[j] = dh * t * o * (1.0f - o);
      by_c[at] = dc * f;
    }
  }
}

/* Numbers of floats that the steps' weights take when packed; without inputs those of
   the gradient's steps. */
int64_t lstm_room(int64_t half, int64_t rows, int64_t inputs, int64_t hidden) {
  const int64_t gates = 4 * hidden;
  if (!inputs) return half ? tiles_size(rows, gates, hidden) : gates * padded(hidden);
  return half ? tiles_size(rows, of_blocks(inputs) + hidden, gates)
              : (inputs + hidden) * padded(gates);
}

/* The steps of a batch of sequences (time, rows, inputs). The gates (time, rows,
   4 hidden) become their activations; h and c (time + 1, rows, hidden) hold the state
   before the first step, and get those after each. Weights are (4 hidden, inputs) and
   (4 hidden, hidden); `room` is for both, packed. Products are of bfloat16 if `half`. */
void lstm_forward(int64_t half, int64_t time, int64_t rows, int64_t inputs,
                  int64_t hidden, const float *values, const float *of_inputs,
                  const float *of_hidden, const float *biases, float *room,
                  float *gates, float *h, float *c) {
  const int64_t size = rows * hidden, behind = of_blocks(inputs);
  const matrix by_input = {of_inputs, inputs, 4 * hidden, 1, inputs},
               by_h = {of_hidden, hidden, 4 * hidden, 1, hidden};
  const tiles both = tiles_in(room, rows, behind + hidden, 4 * hidden);
  float *hidden_panels = room + inputs * padded(4 * hidden);
  if (half) {
    set_weights(&both, 0, by_input);
    set_weights(&both, behind, by_h);
  } else {
    pack(by_input, room);
    pack(by_h, hidden_panels);
  }
  for (int64_t step = 0; step < time; step++) {
    if (half) {
      set_values(&both, 0, (matrix){values, rows, inputs, inputs, 1});
      set_values(&both, behind, (matrix){h, rows, hidden, hidden, 1});
      multiply(&both, biases, gates, step % 2);
    } else {
      for (int64_t row = 0; row < rows; row++)
        memcpy(gates + row * 4 * hidden, biases, 4 * hidden * sizeof *gates);
      products(rows, inputs, 4 * hidden, values, room, gates);
      products(rows, hidden, 4 * hidden, h, hidden_panels, gates);
    }
    cell_forward(rows, hidden, gates, c, c + size, h + size);
    values += rows * inputs, gates += 4 * size, h += size, c += size;
  }
}

/* Their gradient, which takes the place of the gates' activations. Gradients of h come
   from the head (time, rows, hidden) and, in `by_h` (rows, hidden), from what is behind
   the last step; `by_c` likewise. The weights are those of h. */
void lstm_backward(int64_t half, int64_t time, int64_t rows, int64_t hidden,
                   float *gates, const float *c, const float *from_head,
                   const float *weights, float *room, float *by_h, float *by_c) {
  const int64_t size = rows * hidden;
  const matrix by_gate = {weights, 4 * hidden, hidden, hidden, 1};
  const tiles back = tiles_in(room, rows, 4 * hidden, hidden);
  if (half)
    set_weights(&back, 0, by_gate);
  else
    pack(by_gate, room);
  for (int64_t step = time - 1; step >= 0; step--) {
    float *of_step = gates + step * 4 * size;
    cell_backward(rows, hidden, of_step, c + step * size, c + (step + 1) * size,
                  from_head + step * size, by_h, by_c);
    if (half) {
      set_values(&back, 0, (matrix){of_step, rows, 4 * hidden, 4 * hidden, 1});
      multiply(&back, NULL, by_h, step % 2);
    } else {
      memset(by_h, 0, size * sizeof *by_h);
      products(rows, 4 * hidden, hidden, of_step, room, by_h);
    }
  }
}

/* Numbers of floats that are room for a product. */
int64_t half_product_room(int64_t rows, int64_t inputs, int64_t outputs) {
  return tiles_size(rows, inputs, outputs);
}

/* The product of values (rows, inputs) and weights (inputs, outputs) as bfloat16, to `to`
   (rows, outputs), plus biases if there are any. */
void half_product(int64_t rows, int64_t inputs, int64_t outputs, const float *values,
                  int64_t by_row, int64_t by_column, const float *weights,
                  int64_t by_input, int64_t by_output, const float *biases, float *room,
                  float *to) {
  const tiles of = tiles_in(room, rows, inputs, outputs);
  set_weights(&of, 0, (matrix){weights, inputs, outputs, by_input, by_output});
  set_values(&of, 0, (matrix){values, rows, inputs, by_row, by_column});
  multiply(&of, biases, to, 0);
}
