// Which kernels this processor runs; the environment variable DIAMOND_NATIVE=avx2 asks for the older ones.
#include <cstdlib>
#include <cstring>

#include "int8.hpp"
#include "kernels.hpp"

namespace diamond {

#if defined(__x86_64__)
extern const Kernels avx512_bf16, avx512, avx2;
extern const Int8Kernels avx512_int8;

namespace {
bool has_avx512() {
  const char* asked = std::getenv("DIAMOND_NATIVE");
  const bool older = asked != nullptr && std::strcmp(asked, "avx2") == 0;
  return !older && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
}  // namespace

const Kernels* bf16_kernels() { return has_avx512() && __builtin_cpu_supports("avx512bf16") ? &avx512_bf16 : nullptr; }

// What bytes can't multiply, bf16 does.
const Int8Kernels* int8_kernels() {
  return bf16_kernels() != nullptr && __builtin_cpu_supports("avx512vnni") ? &avx512_int8 : nullptr;
}

const Kernels* kernels() {
  if (has_avx512()) return &avx512;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &avx2 : nullptr;
}
#else
extern const Kernels neon;

const Kernels* bf16_kernels() { return nullptr; }
const Int8Kernels* int8_kernels() { return nullptr; }
const Kernels* kernels() { return &neon; }
#endif

}  // namespace diamond
