// Convolutions of 1x1, and of 3x3 with padding 1 over small maps, with stride 1, as they are defined: a sum of products.
// Included by kernels.cpp alone.
//
// A lane is a position, and positions are numbered row by row, over the rows as they lie in memory. For 3x3 every row is
// one column longer, a zero, which is the right edge of one row and the left edge of the next; so a tap is one distance
// for all positions, and maps of any width fill the registers. What comes out in that column is dropped.
#pragma once
#include "kernels.hpp"
#include "vectors.hpp"

namespace diamond {
namespace {

int64_t row_of(const Window& w) { return w.shape.width + (w.side == 3 ? 1 : 0); }
int64_t window_positions(const Window& w) { return w.shape.height * row_of(w) - (w.side == 3 ? 1 : 0); }

// Of `count` positions; those of 3x3 are all there at once, with an edge around.
int64_t plane_factors(const Window& w, int64_t count) {
  const int64_t lanes = (count + L - 1) / L * L + (w.side == 3 ? 2 * row_of(w) + 2 : 0);
  return (lanes + 2 * L - 1) / L * L;  // a row is written in whole vectors
}
int64_t spread_factors(const Window& w, int64_t count) { return lanes_deep(w.shape) * plane_factors(w, count); }

int64_t window_factors(const Window& w) { return w.side * w.side * lanes_deep(w.shape) * groups(w.shape) * GROUP; }

// To (group, tap, channels_in that share a lane, channel of the group).
void pack_window(const Window& w, const float* weights, void* to) {
  const Shape& s = w.shape;
  const int64_t C = s.channels_in, depth = lanes_deep(s), taps = w.side * w.side;
  for (int64_t g = 0; g < groups(s); g++)
    for (int64_t tap = 0; tap < taps; tap++)
      for (int64_t d = 0; d < depth; d++)
        for (int k = 0; k < GROUP; k++) {
          const int64_t out = g * GROUP + k;
          float factors[TOGETHER] = {};
          for (int t = 0; t < TOGETHER && d * TOGETHER + t < C && out < s.channels_out; t++)
            factors[t] = weights[(out * C + d * TOGETHER + t) * taps + tap];
          static_cast<Factor*>(to)[((g * taps + tap) * depth + d) * GROUP + k] = together(factors);
        }
}

// The input channels [first, last) at the positions [begin, begin + count), as factors; `first` begins a lane.
void spread(const Window& w, const Around& around, const Maps& x, int64_t begin, int64_t count, int64_t first,
            int64_t last, void* to) {
  const Shape& s = w.shape;
  const int64_t plane = plane_factors(w, count), row = row_of(w);
  constexpr int64_t RUN = 16 * L;
  float values[TOGETHER][RUN + L];
  for (int64_t c = first; c < last; c += TOGETHER) {
    Factor* lanes = static_cast<Factor*>(to) + c / TOGETHER * plane;
    const int present = static_cast<int>(least(TOGETHER, s.channels_in - c));
    // A run of pixels that lie side by side in the input, to the lanes from `at` on: whole vectors, zeros at the end.
    const auto run = [&](int64_t pixel, int64_t length, int64_t at) {
      for (int t = 0; t < TOGETHER; t++) {
        if (t >= present)
          std::memset(values[t], 0, sizeof(float) * length);
        else
          typed(x.plane(c + t).from(pixel), [&](const auto* from) {
            if (around.gain != nullptr) activate(from, around.gain[c + t], around.shift[c + t], length, values[t]);
            else copy(from, length, values[t]);
          });
        std::memset(values[t] + length, 0, sizeof(float) * L);
      }
      for (int64_t i = 0; i < length; i += L) {
        Vec parts[TOGETHER];
        for (int t = 0; t < TOGETHER; t++) parts[t] = load(values[t] + i);
        store(lanes, at + i, together(parts));
      }
    };
    if (w.side == 1) {
      for (int64_t i = 0; i < count; i += RUN) run(begin + i, least(RUN, count - i), i);
    } else {
      std::memset(lanes, 0, sizeof(Factor) * plane);
      for (int64_t y = 0; y < s.height; y++)
        for (int64_t i = 0; i < s.width; i += RUN)
          run(y * s.width + i, least(RUN, s.width - i), (y + 1) * row + 1 + i);
    }
  }
}

template <int N>
void sum_of_products(const Factor* weights, const Factor* lanes, int64_t plane, int64_t depth, int64_t side, int64_t row,
                     float* to) {
  Vec sums[GROUP][N] = {};
  for (int64_t tap = 0; tap < side * side; tap++) {
    const Factor* from = lanes + tap / side * row + tap % side;
    for (int64_t d = 0; d < depth; d++) {
      Factors at[N];
      for (int n = 0; n < N; n++) at[n] = load(from, d * plane + n * L);
      for (int k = 0; k < GROUP; k++)
        for (int n = 0; n < N; n++) sums[k][n] = add_products(sums[k][n], at[n], weights[k]);
      weights += GROUP;
    }
  }
  for (int k = 0; k < GROUP; k++)
    for (int n = 0; n < N; n++) store(to + k * BLOCK + n * L, sums[k][n]);
}

// The output channels of the groups [first, last) at the positions that were spread.
void sum_window(const Window& w, const Around& around, const void* packed, const void* spread_out, int64_t begin,
                int64_t count, int64_t first, int64_t last, Output y) {
  const Shape& s = w.shape;
  const int64_t depth = lanes_deep(s), plane = plane_factors(w, count), row = row_of(w);
  alignas(64) float sums[GROUP * BLOCK];
  for (int64_t g = first; g < last; g++) {
    const Factor* weights = static_cast<const Factor*>(packed) + g * w.side * w.side * depth * GROUP;
    for (int64_t at = 0; at < count; at += BLOCK) {
      const Factor* lanes = static_cast<const Factor*>(spread_out) + at;
      const int64_t here = least(BLOCK, count - at), vectors = (here + L - 1) / L;
      if (vectors == 3)
        sum_of_products<3>(weights, lanes, plane, depth, w.side, row, sums);
      else if (vectors == 2)
        sum_of_products<2>(weights, lanes, plane, depth, w.side, row, sums);
      else
        sum_of_products<1>(weights, lanes, plane, depth, w.side, row, sums);
      typed(around.residual, y, [&](auto more, auto* to) {
        for (int k = 0; k < GROUP && g * GROUP + k < s.channels_out; k++) {
          const int64_t out = g * GROUP + k;
          if (around.bias != nullptr)
            for (int64_t v = 0; v < vectors; v++)
              store(sums + k * BLOCK + v * L, load(sums + k * BLOCK + v * L) + around.bias[out]);
          for (int64_t i = 0; i < here;) {  // what lies side by side in the output
            const int64_t position = begin + at + i, line = position / row, column = position % row;
            const int64_t length = w.side == 1 ? here : least(here - i, s.width - column);
            const int64_t pixel = out * y.pixels + (w.side == 1 ? position : line * s.width + column);
            put(sums + k * BLOCK + i, more, pixel, length, to);
            i += w.side == 1 ? length : row - column;
          }
        }
      });
    }
  }
}

}  // namespace
}  // namespace diamond
