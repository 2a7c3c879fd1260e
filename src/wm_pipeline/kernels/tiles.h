/* Products of bfloat16 numbers with float32 sums, by the tiles of Intel's AMX: 16 rows of
   64 bytes each. Where the compiler knows none, or the system lends none, `tiles_usable`
   is 0, and nothing else here is to be called. */

#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__linux__)
#define TILES
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum { TILE = 16, BLOCK = 2 * TILE };

typedef uint16_t bfloat; /* a bfloat16 number: the upper half of a float */

typedef struct {
  const float *numbers;
  int64_t rows, columns, by_row, by_column; /* the last two: how far apart they lie */
} matrix;

/* A product of values (rows, inputs) and weights (inputs, outputs). Inputs are those of
   whole blocks; tiles of values are as high as each other, and come in pairs. Weights are
   in blocks of outputs, and within of inputs: two tiles side by side, whose rows hold two
   inputs in turns. Values are in blocks of inputs. */
typedef struct {
  int64_t rows, inputs, outputs, height;
  bfloat *weights, *values;
} tiles;

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static inline int64_t blocks(int64_t count) { return (count + BLOCK - 1) / BLOCK; }

static inline int64_t of_blocks(int64_t count) { return blocks(count) * BLOCK; }

/* Where the values of a product end, in numbers of floats. */
static inline int64_t tiles_size(int64_t rows, int64_t inputs, int64_t outputs) {
  return of_blocks(inputs) * (of_blocks(outputs) + of_blocks(rows)) / 2;
}

static inline tiles tiles_in(float *room, int64_t rows, int64_t inputs,
                             int64_t outputs) {
  const int64_t count = 2 * blocks(rows), deep = of_blocks(inputs);
  bfloat *weights = (bfloat *)room;
  return (tiles){rows,    deep, outputs, (rows + count - 1) / count,
                 weights, weights + deep * of_blocks(outputs)};
}

/* The nearest, of two the even one. */
static inline bfloat bfloat_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

/* Where block number `n` of a matrix begins, in the order in which its numbers lie. */
static inline void block_at(const matrix *of, int64_t n, int64_t *row,
                            int64_t *column) {
  const int64_t down = blocks(of->rows), across = blocks(of->columns);
  *row = (of->by_column == 1 ? n / across : n % down) * BLOCK;
  *column = (of->by_column == 1 ? n % across : n / down) * BLOCK;
}

/* A block of a matrix, its rows `apart`: itself, or else a copy in `room`, with zeros
   behind the last row and column. */
static inline const float *block_of(const matrix *of, int64_t row, int64_t column,
                                    float room[BLOCK][BLOCK], int64_t *apart) {
  const float *first = of->numbers + row * of->by_row + column * of->by_column;
  const int64_t rows = least(BLOCK, of->rows - row),
                columns = least(BLOCK, of->columns - column);
  const int whole = rows == BLOCK && columns == BLOCK;
  *apart = whole && of->by_column == 1 ? of->by_row : BLOCK;
  if (whole && of->by_column == 1) return first;
  if (!whole) memset(room, 0, BLOCK * sizeof *room);
  if (of->by_column == 1)
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < columns; j++) room[i][j] = first[i * of->by_row + j];
  else
    for (int64_t j = 0; j < columns; j++)
      for (int64_t i = 0; i < rows; i++)
        room[i][j] = first[i * of->by_row + j * of->by_column];
  return room[0];
}

/* Weights of some inputs, from number `from` on. */
static void set_weights(const tiles *of, int64_t from, matrix weights) {
  for (int64_t n = 0; n < blocks(weights.rows) * blocks(weights.columns); n++) {
    int64_t input, output, apart;
    float room[BLOCK][BLOCK];
    block_at(&weights, n, &input, &output);
    const float *block = block_of(&weights, input, output, room, &apart);
    bfloat *place = of->weights + output * of->inputs + (from + input) * BLOCK;
    uint32_t *restrict to = (uint32_t *)place;
    for (int64_t tile = 0; tile < BLOCK; tile += TILE)
      for (int64_t i = 0; i < BLOCK; i += 2, to += TILE)
        for (int64_t j = 0; j < TILE; j++)
          to[j] = bfloat_of(block[i * apart + tile + j]) |
                  (uint32_t)bfloat_of(block[(i + 1) * apart + tile + j]) << 16;
  }
}

/* Values of some inputs, likewise. */
static void set_values(const tiles *of, int64_t from, matrix values) {
  const int64_t rows = 2 * blocks(of->rows) * of->height;
  for (int64_t n = 0; n < blocks(values.rows) * blocks(values.columns); n++) {
    int64_t row, input, apart;
    float room[BLOCK][BLOCK];
    block_at(&values, n, &row, &input);
    const float *block = block_of(&values, row, input, room, &apart);
    bfloat *restrict to = of->values + (from + input) * rows + row * BLOCK;
    for (int64_t i = 0; i < least(BLOCK, rows - row); i++)
      for (int64_t j = 0; j < BLOCK; j++)
        to[i * BLOCK + j] = bfloat_of(block[i * apart + j]);
  }
}

#ifdef TILES

/* Whether this process may use tiles: Linux wants to be asked, once. */
int tiles_usable(void) {
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

/* GCC does not know what the instructions for tiles read. Here all is written. */
static inline void written(const void *from) {
  __asm__ volatile("" ::"r"(from) : "memory");
}

/* Lends this thread tiles 0 to 3 of sums and 4 and 5 of values, so high, and 6 and 7 of
   weights. */
static inline void lend_tiles(int64_t height) {
  struct {
    uint8_t palette, first, none[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  } shapes = {.palette = 1};
  for (int tile = 0; tile < 8; tile++) {
    shapes.bytes[tile] = BLOCK * sizeof(bfloat);
    shapes.rows[tile] = tile < 6 ? height : TILE;
  }
  written(&shapes);
  _tile_loadconfig(&shapes);
}

/* The product, to `to` (rows, outputs), plus biases if there are any. Every other time it
   may go `back` through the weights: those that were read last are in the cache. */
static void multiply(const tiles *of, const float *biases, float *to, int back) {
  const int64_t line = BLOCK * sizeof(bfloat), pair = 2 * of->height;
  const int64_t rows = blocks(of->rows) * pair;
  lend_tiles(of->height);
  for (int64_t row = 0; row < of->rows; row += pair)
    for (int64_t n = 0; n < of_blocks(of->outputs); n += BLOCK) {
      const int64_t output = back ? of_blocks(of->outputs) - BLOCK - n : n;
      const int64_t count = least(pair, of->rows - row),
                    columns = least(BLOCK, of->outputs - output);
      const int whole = count == pair && columns == BLOCK;
      float start[BLOCK] = {0}, room[BLOCK][BLOCK];
      float *place = to + row * of->outputs + output, *upper = whole ? place : room[0];
      const int64_t apart = whole ? of->outputs : BLOCK, stride = apart * sizeof *to;
      float *lower = upper + of->height * apart;
      if (biases) memcpy(start, biases + output, columns * sizeof *to);
      written(start);
      _tile_loadd(0, start, 0);
      _tile_loadd(1, start + TILE, 0);
      _tile_loadd(2, start, 0);
      _tile_loadd(3, start + TILE, 0);
      for (int64_t i = 0; i < of->inputs; i += BLOCK) {
        const bfloat *values = of->values + i * rows + row * BLOCK,
                     *weights = of->weights + output * of->inputs + i * BLOCK;
        _tile_loadd(4, values, line);
        _tile_loadd(5, values + of->height * BLOCK, line);
        _tile_loadd(6, weights, line);
        _tile_loadd(7, weights + TILE * BLOCK, line);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
      _tile_stored(0, upper, stride);
      _tile_stored(1, upper + TILE, stride);
      _tile_stored(2, lower, stride);
      _tile_stored(3, lower + TILE, stride);
      for (int64_t i = 0; i < count && !whole; i++)
        memcpy(place + i * of->outputs, room[i], columns * sizeof *to);
    }
  _tile_release();
}

#else

int tiles_usable(void) { return 0; }
static void multiply(const tiles *of, const float *biases, float *to, int back) {
  (void)of, (void)biases, (void)to, (void)back;
}

#endif
