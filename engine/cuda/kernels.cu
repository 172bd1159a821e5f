// The small kernels of a frame: noise, the sampler's arithmetic, rolling histories, pixels.
//
// What each computes is written down in engine/program/launches.py, operation by operation. Compiled without fused
// multiply-add, so that the results are those of numpy to the last bit. One thread an element; c is the frame's
// coefficient buffer. No kernel shares memory between threads, and none needs the order of blocks.

#define FOR_EACH(i, count)                                       \
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;    \
    if (i >= (count)) return

// Number `at` of a draw that starts at `offset` and wraps around at the end of the table; both are at most `size`, which
// is far below 2^31.
static __device__ float normal(const float* table, unsigned size, unsigned offset, unsigned at) {
    const unsigned place = offset + at;
    return table[place < size ? place : place - size];
}

extern "C" __global__ void set_noise(float* target, const float* table, unsigned size, const unsigned* offsets,
                                     unsigned draw, const float* c, unsigned scale, unsigned count) {
    FOR_EACH(i, count);
    target[i] = normal(table, size, offsets[draw], i) * c[scale];
}

extern "C" __global__ void add_noise(float* target, const float* table, unsigned size, const unsigned* offsets,
                                     unsigned draw, unsigned skip, const float* c, unsigned scale, unsigned count) {
    FOR_EACH(i, count);
    target[i] += normal(table, size, offsets[draw], skip + i) * c[scale];
}

// Karras et al. 2022, Alg. 1, lines 4-5.
extern "C" __global__ void euler_step(float* x, const float* denoised, const float* c, unsigned sigma,
                                      unsigned d_sigma, unsigned count) {
    FOR_EACH(i, count);
    x[i] += (x[i] - denoised[i]) / c[sigma] * c[d_sigma];
}

// Karras et al. 2022, Alg. 1, lines 4-5; the point where lines 7-8 evaluate again.
extern "C" __global__ void heun_trial(const float* x, const float* denoised, float* slope, float* trial,
                                      const float* c, unsigned sigma, unsigned d_sigma, unsigned count) {
    FOR_EACH(i, count);
    slope[i] = (x[i] - denoised[i]) / c[sigma];
    trial[i] = slope[i] * c[d_sigma] + x[i];
}

// Karras et al. 2022, Alg. 1, lines 7-8.
extern "C" __global__ void heun_step(float* x, const float* denoised, const float* slope, const float* trial,
                                     const float* c, unsigned sigma, unsigned half_d_sigma, unsigned count) {
    FOR_EACH(i, count);
    x[i] += (slope[i] + (trial[i] - denoised[i]) / c[sigma]) * c[half_d_sigma];
}

// Several threads may write the flag; all of them write 1.
extern "C" __global__ void check_finite(const float* image, int* flags, unsigned flag, unsigned count) {
    FOR_EACH(i, count);
    if (!isfinite(image[i])) flags[flag] = 1;
}

// A thread owns the same element of every frame in the history, so that none overtakes another. `length`: of a frame.
extern "C" __global__ void roll(float* history, const float* newest, const int* flags, unsigned networks,
                                unsigned frames, unsigned length) {
    FOR_EACH(i, length);
    for (unsigned network = 0; network < networks; ++network)
        if (flags[network]) return;
    for (unsigned t = 0; t + 1 < frames; ++t) history[t * length + i] = history[(t + 1) * length + i];
    history[(frames - 1) * length + i] = newest[i];
}

// (3, H, W) to (H, W, 3). rintf rounds halves to even, as numpy does. `count`: of pixels.
extern "C" __global__ void pack(const float* image, unsigned char* pixels, unsigned count) {
    FOR_EACH(i, count);
    for (unsigned channel = 0; channel < 3; ++channel)
        pixels[3 * i + channel] = static_cast<unsigned char>(rintf((image[channel * count + i] + 1.0f) * 127.5f));
}
