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

int64_t score_floats(int64_t positions) { return positions * AT_ONCE; }

// y = v softmax(q^T k)^T for the queries of one run, AT_ONCE of them at most; all (HEAD, positions).
void attend(const float* q, const float* k, const float* v, int64_t positions, int64_t run, float* scores, float* y) {
  const int64_t begin = run * AT_ONCE, count = least(AT_ONCE, positions - begin);
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

}  // namespace
}  // namespace diamond
