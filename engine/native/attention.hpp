// Attention over all pairs of positions, with heads of eight channels. Included by kernels.cpp alone.
//
// A lane is a query. The scores of two vectors of queries stay in the cache: what the standard's operators write for all
// of them at once is several times the size of the map.
#pragma once
#include <limits>

#include "kernels.hpp"
#include "vectors.hpp"

namespace diamond {
namespace {

constexpr int QUERIES = 2;  // vectors
constexpr int AT_ONCE = QUERIES * L;

#if defined(DIAMOND_BF16)
// In bf16: channels two by two for the scores, positions two by two for the values.
constexpr int PAIRS = HEAD / 2;
int64_t even(int64_t positions) { return (positions + 1) / 2 * 2; }
int64_t attention_floats(int64_t positions) { return even(positions) * (AT_ONCE + PAIRS + HEAD / 2); }

void attend_run(const float* q, const Factor* keys, const Factor* values, int64_t positions, int64_t begin, float* scores,
                float* y) {
  const int64_t count = least(AT_ONCE, positions - begin), pairs = even(positions) / 2;
  Factors queries[PAIRS][QUERIES];
  Vec top[QUERIES], sums[QUERIES] = {}, found[HEAD][QUERIES] = {};
  for (int p = 0; p < PAIRS; p++) {
    Vec parts[QUERIES][2] = {};
    for (int i = 0; i < 2; i++) {
      float row[AT_ONCE] = {};
      std::memcpy(row, q + (2 * p + i) * positions + begin, sizeof(float) * count);
      for (int n = 0; n < QUERIES; n++) parts[n][i] = load(row + n * L) * OCTAVES;
    }
    for (int n = 0; n < QUERIES; n++) queries[p][n] = together(parts[n]);
  }
  for (auto& most_yet : top) most_yet = Vec{} - std::numeric_limits<float>::infinity();
  for (int64_t j = 0; j < positions; j++)
    for (int n = 0; n < QUERIES; n++) {
      Vec score = {};
      for (int p = 0; p < PAIRS; p++) score = add_products(score, queries[p][n], keys[j * PAIRS + p]);
      store(scores + j * AT_ONCE + n * L, score);
      top[n] = score > top[n] ? score : top[n];
    }
  if (positions % 2 != 0)  // no weight for what fills up the last pair
    for (int n = 0; n < QUERIES; n++)
      store(scores + positions * AT_ONCE + n * L, Vec{} - std::numeric_limits<float>::infinity());
  for (int64_t m = 0; m < pairs; m++)
    for (int n = 0; n < QUERIES; n++) {
      const float* score = scores + 2 * m * AT_ONCE + n * L;
      const Vec weights[2] = {power_of_two(load(score) - top[n]), power_of_two(load(score + AT_ONCE) - top[n])};
      sums[n] += weights[0] + weights[1];
      const Factors both = together(weights);
      for (int d = 0; d < HEAD; d++) found[d][n] = add_products(found[d][n], both, values[m * HEAD + d]);
    }
  for (int d = 0; d < HEAD; d++) {
    for (int n = 0; n < QUERIES; n++) found[d][n] /= sums[n];
    std::memcpy(y + d * positions + begin, found[d], sizeof(float) * count);
  }
}

// y = v softmax(q^T k)^T of one head; all (HEAD, positions).
void attend(const float* q, const float* k, const float* v, int64_t positions, float* scratch, float* y) {
  const int64_t pairs = even(positions) / 2;
  Factor* keys = reinterpret_cast<Factor*>(scratch + even(positions) * AT_ONCE);
  Factor* values = keys + positions * PAIRS;
  for (int64_t j = 0; j < positions; j++)
    for (int p = 0; p < PAIRS; p++) {
      const float pair[2] = {k[2 * p * positions + j], k[(2 * p + 1) * positions + j]};
      keys[j * PAIRS + p] = together(pair);
    }
  for (int64_t m = 0; m < pairs; m++)
    for (int d = 0; d < HEAD; d++) {
      const float* at = v + d * positions + 2 * m;
      const float pair[2] = {at[0], 2 * m + 1 < positions ? at[1] : 0.f};
      values[m * HEAD + d] = together(pair);
    }
  for (int64_t begin = 0; begin < positions; begin += AT_ONCE)
    attend_run(q, keys, values, positions, begin, scratch, y);
}
#else
int64_t attention_floats(int64_t positions) { return positions * AT_ONCE; }

void attend_run(const float* q, const float* k, const float* v, int64_t positions, int64_t begin, float* scores,
                float* y) {
  const int64_t count = least(AT_ONCE, positions - begin);
  Vec queries[HEAD][QUERIES] = {}, top[QUERIES], sums[QUERIES] = {};
  for (int d = 0; d < HEAD; d++) std::memcpy(queries[d], q + d * positions + begin, sizeof(float) * count);
  for (auto& most_yet : top) most_yet = Vec{} - std::numeric_limits<float>::infinity();
  for (int64_t j = 0; j < positions; j++)
    for (int n = 0; n < QUERIES; n++) {
      Vec score = queries[0][n] * k[j];
      for (int d = 1; d < HEAD; d++) score += queries[d][n] * k[d * positions + j];
      store(scores + j * AT_ONCE + n * L, score);
      top[n] = score > top[n] ? score : top[n];
    }
  for (int64_t j = 0; j < positions; j++)
    for (int n = 0; n < QUERIES; n++) {
      float* score = scores + j * AT_ONCE + n * L;
      const Vec weight = exponential(load(score) - top[n]);
      sums[n] += weight;
      store(score, weight);
    }
  Vec values[HEAD][QUERIES] = {};
  for (int64_t j = 0; j < positions; j++) {
    Vec weights[QUERIES];
    for (int n = 0; n < QUERIES; n++) weights[n] = load(scores + j * AT_ONCE + n * L);
    for (int d = 0; d < HEAD; d++)
      for (int n = 0; n < QUERIES; n++) values[d][n] += weights[n] * v[d * positions + j];
  }
  for (int d = 0; d < HEAD; d++) {
    for (int n = 0; n < QUERIES; n++) values[d][n] /= sums[n];
    std::memcpy(y + d * positions + begin, values[d], sizeof(float) * count);
  }
}

// y = v softmax(q^T k)^T of one head; all (HEAD, positions).
void attend(const float* q, const float* k, const float* v, int64_t positions, float* scratch, float* y) {
  for (int64_t begin = 0; begin < positions; begin += AT_ONCE) attend_run(q, k, v, positions, begin, scratch, y);
}
#endif

}  // namespace
}  // namespace diamond
