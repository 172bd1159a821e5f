// 3x3 convolutions with stride 1 and padding 1, by the minimal filtering algorithm F(4x4, 3x3). Included by kernels.cpp.
//
// Winograd, "Arithmetic complexity of computations", 1980; Lavin and Gray, "Fast algorithms for convolutional neural
// networks", 2016. Of 36 products a tile of 4x4 outputs needs, a direct convolution takes 144.
//
// Tiles are numbered row by row, and a block is a run of them: one lane of a vector is one tile, so maps of any width
// fill the registers. A block's input is transformed into 36 matrices (channels_in, tiles), one a place in the 6x6 of
// the transformed domain; each is multiplied by its matrix of weights, a group of output channels at a time; and what
// comes out is transformed back while it lies in the cache.
#pragma once
#include "kernels.hpp"
#include "vectors.hpp"

namespace diamond {
namespace {

#if defined(__AVX512F__)
constexpr int GROUP = 8, VECTORS = 3;  // 24 of 32 registers accumulate
#elif defined(__AVX2__)
constexpr int GROUP = 4, VECTORS = 3;  // 12 of 16
#else
constexpr int GROUP = 8, VECTORS = 3;  // NEON: 24 of 32
#endif
constexpr int BLOCK = VECTORS * L;
constexpr int PAD = 64 / sizeof(float);  // between the 36 matrices: without it they would share a few sets of the cache

// The transforms of F(4, 3) from the points 0, 1, -1, 2, -2 and infinity, along one direction.
inline void transform_input(Vec d0, Vec d1, Vec d2, Vec d3, Vec d4, Vec d5, Vec* to, int step) {
  const Vec a = d4 - 4.f * d2, b = d3 - 4.f * d1, c = d4 - d2, e = 2.f * (d3 - d1);
  to[0] = 4.f * d0 - 5.f * d2 + d4;
  to[step] = a + b;
  to[2 * step] = a - b;
  to[3 * step] = c + e;
  to[4 * step] = c - e;
  to[5 * step] = 4.f * d1 - 5.f * d3 + d5;
}
inline void transform_output(Vec m0, Vec m1, Vec m2, Vec m3, Vec m4, Vec m5, Vec* to, int step) {
  const Vec a = m1 + m2, b = m1 - m2, c = m3 + m4, d = m3 - m4;
  to[0] = m0 + a + c;
  to[step] = b + 2.f * d;
  to[2 * step] = a + 4.f * c;
  to[3 * step] = b + 8.f * d + m5;
}
constexpr double WEIGHTS[6][3] = {{1. / 4, 0, 0},          {-1. / 6, -1. / 6, -1. / 6}, {-1. / 6, 1. / 6, -1. / 6},
                                  {1. / 24, 1. / 12, 1. / 6}, {1. / 24, -1. / 12, 1. / 6}, {0, 0, 1}};

int64_t groups(const Shape& s) { return (s.channels_out + GROUP - 1) / GROUP; }

int64_t lanes_deep(const Shape& s) { return (s.channels_in + TOGETHER - 1) / TOGETHER; }  // lanes of all channels

int64_t packed_factors(const Shape& s) { return 36 * lanes_deep(s) * groups(s) * GROUP; }

// To (group, place, channels_in that share a lane, channel of the group).
void pack(const Shape& s, const float* weights, void* to) {
  Factor* packed = static_cast<Factor*>(to);
  const int64_t C = s.channels_in, depth = lanes_deep(s);
  for (int64_t g = 0; g < groups(s); g++)
    for (int64_t d = 0; d < depth; d++)
      for (int k = 0; k < GROUP; k++) {
        const int64_t out = g * GROUP + k;
        float u[36][TOGETHER] = {};
        for (int t = 0; t < TOGETHER && d * TOGETHER + t < C && out < s.channels_out; t++) {
          const float* w = weights + (out * C + d * TOGETHER + t) * 9;
          double half[6][3];
          for (int i = 0; i < 6; i++)
            for (int j = 0; j < 3; j++)
              half[i][j] = WEIGHTS[i][0] * w[j] + WEIGHTS[i][1] * w[3 + j] + WEIGHTS[i][2] * w[6 + j];
          for (int i = 0; i < 6; i++)
            for (int j = 0; j < 6; j++)
              u[i * 6 + j][t] = static_cast<float>(half[i][0] * WEIGHTS[j][0] + half[i][1] * WEIGHTS[j][1] +
                                                   half[i][2] * WEIGHTS[j][2]);
        }
        for (int place = 0; place < 36; place++)
          packed[((g * 36 + place) * depth + d) * GROUP + k] = together(u[place]);
      }
}

int64_t place_factors(const Shape& s) { return lanes_deep(s) * BLOCK + PAD; }  // from one of the 36 to the next
constexpr int64_t PRODUCT = GROUP * BLOCK + PAD;
int64_t block_factors(const Shape& s) { return 36 * place_factors(s); }
int64_t scratch_floats() { return 36 * PRODUCT; }

// `count` columns of a row of a doubled map, the first of them column `first`, to `to`; up to 2 L more are written, one
// of them before it.
template <typename From>
void doubled(const From* row, int64_t first, int64_t count, float* to) {
  const int64_t source = first / 2, begin = first % 2, values = (begin + count + 1) / 2;
  for_vectors(row + source, values, [&](Vec x, int64_t i, int64_t) {
    store(to - begin + 2 * i, zip(x, x, 0, All()));
    store(to - begin + 2 * i + L, zip_upper(x, x, All()));
  });
}

// Six rows of a map around the tiles [x, x + count) of tile row y: the six columns of every tile, a run each.
struct Rows {
  float columns[6][6][BLOCK + L];
  float around_row[L + 4 * (BLOCK + 2 * L) + 2 * L];

  template <typename From>
  void read(const Shape& s, const From* plane, bool twice, const float* gain, const float* shift, int64_t y, int64_t x,
            int64_t count) {
    const int64_t vectors = (count + L - 1) / L + 1;  // one more: a tile reads two columns of the next
    const int64_t width = 4 * L * vectors, first = 4 * x - 1;
    const int64_t low = most(0, -first), high = most(low, least(width, s.width - first));
    for (int i = 0; i < 6; i++) {
      const int64_t line = 4 * y - 1 + i;
      if (line < 0 || line >= s.height) {
        for (auto& part : columns[i]) std::memset(part, 0, sizeof(float) * L * (vectors - 1));
        continue;
      }
      const From* from = twice ? plane + line / 2 * (s.width / 2) : plane + line * s.width + first;
      float* row = around_row + L;
      for (int64_t column = low; column < high; column += 64 / sizeof(From))  // the same of the next channel but one
        __builtin_prefetch(from + (twice ? s.height * s.width / 2 + column / 2 : 2 * s.height * s.width + column));
      const float* source = row;
      if constexpr (sizeof(From) == sizeof(float))
        if (!twice && gain == nullptr && low == 0 && high == width) source = from;
      if (source == row) {
        if (twice) doubled(from, first + low, high - low, row + low);
        else if (gain != nullptr) activate(from + low, *gain, *shift, high - low, row + low);
        else copy(from + low, high - low, row + low);
        if (low > 0) row[0] = 0;
        if (high < width) std::memset(row + high, 0, sizeof(float) * (width - high));
      }
      Vec a, b, c, d, after_a, after_b, after_c, after_d;
      split(source, a, b, c, d);
      for (int64_t v = 0; v + 1 < vectors; v++) {
        split(source + 4 * (v + 1) * L, after_a, after_b, after_c, after_d);
        store(columns[i][0] + v * L, a);
        store(columns[i][1] + v * L, b);
        store(columns[i][2] + v * L, c);
        store(columns[i][3] + v * L, d);
        store(columns[i][4] + v * L, next(a, after_a, All()));
        store(columns[i][5] + v * L, next(b, after_b, All()));
        a = after_a, b = after_b, c = after_c, d = after_d;
      }
    }
  }
};

void transform(const Shape& s, const Around& around, const Maps& x, int64_t block, int64_t first, int64_t last,
               void* transformed) {
  const int64_t across = s.tiles_x(), begin = block * BLOCK, end = least(s.tiles(), begin + BLOCK);
  const int64_t place = place_factors(s);
  Rows rows[TOGETHER];
  for (int64_t c = first; c < last; c += TOGETHER) {
    const int present = static_cast<int>(least(TOGETHER, s.channels_in - c));
    for (int64_t tile = begin; tile < end;) {
      const int64_t ty = tile / across, tx = tile % across, count = least(end - tile, across - tx);
      for (int t = 0; t < present; t++) {
        const float* gain = around.gain == nullptr ? nullptr : around.gain + c + t;
        const float* shift = around.gain == nullptr ? nullptr : around.shift + c + t;
        typed(x.plane(c + t),
              [&](const auto* plane) { rows[t].read(s, plane, x.doubled, gain, shift, ty, tx, count); });
      }
      for (int64_t v = 0; v < count; v += L) {
        // The last vector of a run overlaps the one before; a run shorter than a vector writes into the next run's place.
        const int64_t at = count >= L ? least(v, count - L) : 0;
        Vec half[TOGETHER][6][6], whole[6][TOGETHER] = {};
        for (int t = 0; t < present; t++)
          for (int i = 0; i < 6; i++) {
            const auto& r = rows[t].columns[i];
            transform_input(load(r[0] + at), load(r[1] + at), load(r[2] + at), load(r[3] + at), load(r[4] + at),
                            load(r[5] + at), half[t][i], 1);
          }
        const int64_t lane = tile - begin + at;
        Factor* to = static_cast<Factor*>(transformed) + c / TOGETHER * BLOCK + lane;
        for (int j = 0; j < 6; j++) {
          for (int t = 0; t < present; t++) {
            const auto& h = half[t];
            transform_input(h[0][j], h[1][j], h[2][j], h[3][j], h[4][j], h[5][j], &whole[0][t], TOGETHER);
          }
          for (int i = 0; i < 6; i++) {
            const Factors factors = together(whole[i]);
            if (lane + L <= BLOCK)
              store(to, (i * 6 + j) * place, factors);
            else
              std::memcpy(to + (i * 6 + j) * place, &factors, sizeof(Factor) * (BLOCK - lane));
          }
        }
      }
      tile += count;
    }
  }
}

// (GROUP, N L) = weights (depth, GROUP) transposed times tiles (depth, N L).
template <int N> void product(const Factor* weights, const Factor* tiles, int64_t depth, float* to) {
  Vec sums[GROUP][N] = {};
  for (int64_t d = 0; d < depth; d++) {
    Factors tile[N];
    for (int n = 0; n < N; n++) tile[n] = load(tiles, d * BLOCK + n * L);
    for (int k = 0; k < GROUP; k++) {
      const Factor weight = weights[d * GROUP + k];
      for (int n = 0; n < N; n++) sums[k][n] = add_products(sums[k][n], tile[n], weight);
    }
  }
  for (int k = 0; k < GROUP; k++)
    for (int n = 0; n < N; n++) store(to + k * BLOCK + n * L, sums[k][n]);
}

void multiply(const Shape& s, const Around& around, const void* packed, const void* transformed, float* scratch,
              int64_t block, int64_t first, int64_t last, Output y) {
  const int64_t depth = lanes_deep(s), across = s.tiles_x();
  const int64_t begin = block * BLOCK, end = least(s.tiles(), begin + BLOCK), vectors = (end - begin + L - 1) / L;
  float rows[4][4 * BLOCK];
  for (int64_t g = first; g < last; g++) {
    for (int place = 0; place < 36; place++) {
      const Factor* weights = static_cast<const Factor*>(packed) + (g * 36 + place) * depth * GROUP;
      const Factor* tiles = static_cast<const Factor*>(transformed) + place * place_factors(s);
      float* to = scratch + place * PRODUCT;
      if (vectors == 3)
        product<3>(weights, tiles, depth, to);
      else if (vectors == 2)
        product<2>(weights, tiles, depth, to);
      else
        product<1>(weights, tiles, depth, to);
    }
    typed(around.residual, y, [&](auto more, auto* to) {
      for (int k = 0; k < GROUP && g * GROUP + k < s.channels_out; k++) {
        const int64_t out = g * GROUP + k;
        const float bias = around.bias == nullptr ? 0.f : around.bias[out];
        for (int64_t v = 0; v < vectors; v++) {
          Vec half[4][6], whole[4];
          const float* from = scratch + k * BLOCK + v * L;
          const auto at = [from](int place) { return load(from + place * PRODUCT); };
          for (int j = 0; j < 6; j++)
            transform_output(at(j), at(6 + j), at(12 + j), at(18 + j), at(24 + j), at(30 + j), &half[0][j], 6);
          for (int i = 0; i < 4; i++) {
            const Vec* h = half[i];
            transform_output(h[0], h[1], h[2], h[3], h[4], h[5], whole, 1);
            join(whole[0] + bias, whole[1] + bias, whole[2] + bias, whole[3] + bias, rows[i] + 4 * v * L);
          }
        }
        for (int64_t tile = begin; tile < end;) {
          const int64_t ty = tile / across, tx = tile % across, count = least(end - tile, across - tx);
          const int64_t columns = least(4 * count, s.width - 4 * tx);
          for (int i = 0; i < 4 && 4 * ty + i < s.height; i++) {
            const int64_t place = out * y.pixels + (4 * ty + i) * s.width + 4 * tx;
            put(rows[i] + 4 * (tile - begin), more, place, columns, to);
          }
          tile += count;
        }
      }
    });
  }
}

}  // namespace
}  // namespace diamond
