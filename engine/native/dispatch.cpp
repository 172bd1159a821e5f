// Which kernels this processor runs; the environment variable DIAMOND_NATIVE=avx2 asks for the older ones.
#include <cstdlib>
#include <cstring>

#include "kernels.hpp"

namespace diamond {

#if defined(__x86_64__)
extern const Kernels avx512, avx2;

const Kernels* kernels() {
  const char* asked = std::getenv("DIAMOND_NATIVE");
  const bool older = asked != nullptr && std::strcmp(asked, "avx2") == 0;
  if (!older && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return &avx512;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &avx2 : nullptr;
}
#else
extern const Kernels neon;

const Kernels* kernels() { return &neon; }
#endif

}  // namespace diamond
