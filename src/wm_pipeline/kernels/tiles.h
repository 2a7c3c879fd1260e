/* Products of bfloat16 numbers with float32 sums, by the tiles of Intel's AMX: 16 rows of
   64 bytes each. Where the compiler knows none, or the system lends none, `tiles_usable`
   is 0, and nothing else here is to be called. */

#pragma once

#include <stdint.h>
#include <string.h>

enum { TILE = 16, BLOCK = 2 * TILE };

typedef uint16_t bfloat; /* a bfloat16 number: the upper half of a float */

typedef struct {
  const float *numbers;
  int64_t rows, columns, by_row, by_column; /* the last two: how far apart they lie */
} matrix;

static int64_t blocks(int64_t count) { return (count + BLOCK - 1) / BLOCK; }

/* Rows of values in a tile: tiles come in pairs, as high as each other. */
static int64_t tile_height(int64_t rows) {
  const int64_t tiles = 2 * blocks(rows);
  return (rows + tiles - 1) / tiles;
}

/* Numbers of floats that have room for weights (inputs, outputs), and for the rows
   (rows, inputs) that are multiplied by them. */
int64_t tiles_size(int64_t rows, int64_t inputs, int64_t outputs) {
  const int64_t height = 2 * blocks(rows) * tile_height(rows);
  return blocks(inputs) * BLOCK * (blocks(outputs) * BLOCK + height) / 2;
}

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__linux__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Whether this process may use tiles: Linux wants to be asked, once. */
int tiles_usable(void) {
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

/* GCC does not know what the instructions for tiles read: by here all is written. */
static inline void written(const void *from) {
  __asm__ volatile("" ::"r"(from) : "memory");
}

/* Lends this thread tiles 0 to 3 of sums and 4 and 5 of values, as high as `rows` want
   them, and 6 and 7 of weights; until `tiles_end`. */
static void tiles_begin(int64_t rows) {
  struct {
    uint8_t palette, first, none[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  } shapes = {.palette = 1};
  for (int tile = 0; tile < 8; tile++) {
    shapes.bytes[tile] = BLOCK * sizeof(bfloat);
    shapes.rows[tile] = tile < 6 ? tile_height(rows) : TILE;
  }
  written(&shapes);
  _tile_loadconfig(&shapes);
}

static void tiles_end(void) { _tile_release(); }

/* The nearest, of two the even one. */
static inline bfloat bfloat_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

/* A block of a matrix; zeros behind its last row and column. */
static inline void block_of(const matrix *from, int64_t row, int64_t column,
                            float block[BLOCK][BLOCK]) {
  const int64_t rows = from->rows - row < BLOCK ? from->rows - row : BLOCK,
                columns = from->columns - column < BLOCK ? from->columns - column
                                                         : BLOCK;
  const float *first = from->numbers + row * from->by_row + column * from->by_column;
  if (rows < BLOCK || columns < BLOCK) memset(block, 0, BLOCK * sizeof *block);
  if (from->by_column == 1)
    for (int64_t i = 0; i < rows; i++)
      memcpy(block[i], first + i * from->by_row, columns * sizeof **block);
  else
    for (int64_t j = 0; j < columns; j++)
      for (int64_t i = 0; i < rows; i++)
        block[i][j] = first[i * from->by_row + j * from->by_column];
}

/* Where block number `n` of a matrix begins, in the order in which its numbers lie. */
static inline void block_at(const matrix *of, int64_t n, int64_t *row,
                            int64_t *column) {
  const int64_t down = blocks(of->rows), across = blocks(of->columns);
  *row = (of->by_column == 1 ? n / across : n % down) * BLOCK;
  *column = (of->by_column == 1 ? n % across : n / down) * BLOCK;
}

/* Weights (inputs, outputs) in blocks: of BLOCK outputs, and within of BLOCK inputs. A
   block is two tiles side by side; a tile's row holds two inputs in turns. */
static void pack_tiles(matrix weights, float *restrict packed) {
  const int64_t deep = blocks(weights.rows) * BLOCK;
  for (int64_t n = 0; n < blocks(weights.rows) * blocks(weights.columns); n++) {
    int64_t input, output;
    float block[BLOCK][BLOCK];
    block_at(&weights, n, &input, &output);
    block_of(&weights, input, output, block);
    uint32_t *restrict to = (uint32_t *)packed + (output * deep + input * BLOCK) / 2;
    for (int64_t tile = 0; tile < BLOCK; tile += TILE)
      for (int64_t i = 0; i < BLOCK; i += 2, to += TILE)
        for (int64_t j = 0; j < TILE; j++)
          to[j] = bfloat_of(block[i][tile + j]) |
                  (uint32_t)bfloat_of(block[i + 1][tile + j]) << 16;
  }
}

/* Products of values (rows, inputs) with packed weights, added to `to` (rows,
   outputs). */
static void tile_products(matrix values, int64_t outputs, float *restrict packed,
                          float *restrict to) {
  const int64_t rows = values.rows, deep = blocks(values.columns) * BLOCK;
  const int64_t height = tile_height(rows);
  const bfloat *tiles = (bfloat *)packed;
  bfloat *halves = (bfloat *)packed + deep * blocks(outputs) * BLOCK;
  for (int64_t n = 0; n < blocks(rows) * blocks(values.columns); n++) {
    int64_t row, input;
    float block[BLOCK][BLOCK];
    block_at(&values, n, &row, &input);
    block_of(&values, row, input, block);
    for (int64_t i = 0; i < BLOCK && row + i < rows; i++)
      for (int64_t j = 0; j < BLOCK; j++)
        halves[(row + i) * deep + input + j] = bfloat_of(block[i][j]);
  }
  written(halves);
  for (int64_t row = 0; row < rows; row += 2 * height) {
    const int64_t count = rows - row < 2 * height ? rows - row : 2 * height;
    const bfloat *upper = halves + row * deep, *lower = upper + height * deep;
    for (int64_t first = 0; first < outputs; first += BLOCK) {
      const int64_t columns = outputs - first < BLOCK ? outputs - first : BLOCK;
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int64_t i = 0; i < deep; i += BLOCK) {
        const bfloat *left = tiles + first * deep + i * BLOCK, *right = left + TILE * BLOCK;
        _tile_loadd(4, upper + i, deep * sizeof *upper);
        _tile_loadd(5, lower + i, deep * sizeof *lower);
        _tile_loadd(6, left, BLOCK * sizeof *left);
        _tile_loadd(7, right, BLOCK * sizeof *right);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
      float found[BLOCK][BLOCK];
      _tile_stored(0, found[0], sizeof *found);
      _tile_stored(1, found[0] + TILE, sizeof *found);
      _tile_stored(2, found[height], sizeof *found);
      _tile_stored(3, found[height] + TILE, sizeof *found);
      for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < columns; j++)
          to[(row + i) * outputs + first + j] += found[i][j];
    }
  }
}

#else

int tiles_usable(void) { return 0; }
static void tiles_begin(int64_t rows) { (void)rows; }
static void tiles_end(void) {}
static void pack_tiles(matrix weights, float *packed) { (void)weights, (void)packed; }
static void tile_products(matrix values, int64_t outputs, float *packed, float *to) {
  (void)values, (void)outputs, (void)packed, (void)to;
}

#endif
