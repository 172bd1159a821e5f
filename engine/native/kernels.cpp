// The kernels of kernels.hpp for the instruction set that this file is compiled for; DIAMOND_KERNELS names them.
#include "attention.hpp"
#include "winograd.hpp"
#include "direct.hpp"
#include "linear.hpp"

namespace diamond {
namespace {

float total(Vec lanes) {
  float all[L];
  store(all, lanes);
  for (int half = L / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) all[i] += all[i + half];
  return all[0];
}

// In float over short runs, in double over the runs, and of the distances from the first value: what is far from zero
// and close together keeps its variance.
template <typename From>
void moments_of(const From* x, int64_t count, double* sum, double* squares) {
  constexpr int64_t STEP = 4 * L, RUN = 64 * STEP;
  const float from = count > 0 ? load_some(x, 1)[0] : 0.f;
  double sums = 0, products = 0;
  for (int64_t begin = 0; begin < count; begin += RUN) {
    const int64_t end = least(count, begin + RUN), whole = begin + (end - begin) / STEP * STEP;
    Vec a[4] = {}, b[4] = {};
    for (int64_t i = begin; i < whole; i += STEP)
      for (int v = 0; v < 4; v++) {
        const Vec value = load(x + i + v * L) - from;
        a[v] += value;
        b[v] += value * value;
      }
    for (int64_t i = whole; i < end; i += L) {
      const int64_t left = least(L, end - i);
      Vec value = {};  // what is missing adds nothing
      const Vec there = (left == L ? load(x + i) : load_some(x + i, left)) - from;
      std::memcpy(&value, &there, sizeof(float) * left);
      a[0] += value;
      b[0] += value * value;
    }
    sums += total((a[0] + a[1]) + (a[2] + a[3]));
    products += total((b[0] + b[1]) + (b[2] + b[3]));
  }
  const double origin = from;
  *sum = sums + count * origin;
  *squares = products + 2 * origin * sums + count * origin * origin;
}

void moments(Values x, int64_t count, double* sum, double* squares) {
  typed(x, [&](const auto* from) { moments_of(from, count, sum, squares); });
}

void affine(Values x, float scale, float offset, int64_t count, int64_t place, Output y) {
  typed(y, [&](auto* to) {
    typed(x, [&](const auto* from) {
      for_vectors(from, count, [&](Vec value, int64_t i, int64_t lanes) {
        const Vec result = value * scale + offset;
        lanes == L ? store(to + place + i, result) : store_some(to + place + i, result, lanes);
      });
    });
  });
}

}  // namespace

extern const Kernels DIAMOND_KERNELS;
const Kernels DIAMOND_KERNELS = {
#if defined(DIAMOND_BF16)
    "AVX-512 with bf16",
#elif defined(__AVX512F__)
    "AVX-512",
#elif defined(__AVX2__)
    "AVX2",
#else
    "NEON",
#endif
    TOGETHER,
    GROUP,
    BLOCK,
    packed_factors,
    pack,
    block_factors,
    scratch_floats,
    transform,
    multiply,
    window_positions,
    window_factors,
    pack_window,
    spread_factors,
    spread,
    sum_window,
    attention_floats,
    attend,
#if defined(DIAMOND_BF16)
    weight_lanes,
    pack_linear,
    linear,
#else
    nullptr,        nullptr,   nullptr,
#endif
    moments,
    affine};

}  // namespace diamond
