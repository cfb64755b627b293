#include "kernels/composite.h"

#include "math/composite.h"
#include "simd.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

constexpr int64_t tile = 256;  // samples whose exponentials are taken at once; a multiple of every W

// absorbed = 1 - e^-tau and passed = e^-tau, both to a few ulp, for tau in [0, inf]; NaN for anything else that is
// not finite. One exponential serves both: with tau = n ln 2 + r, e^r - 1 keeps its relative accuracy near 0.
PF_INLINE void absorb(vf tau, vf* absorbed, vf* passed) {
  const vf x = max(splat(0.f) - tau, splat(-87.f));
  const vf n = floor(fma(x, splat(1.44269504088896341f), splat(0.5f)));
  vf r = fma(n, splat(-0.693359375f), x);
  r = fma(n, splat(2.12194440e-4f), r);
  vf p = splat(1.9875691500e-4f);
  p = fma(p, r, splat(1.3981999507e-3f));
  p = fma(p, r, splat(8.3334519073e-3f));
  p = fma(p, r, splat(4.1665795894e-2f));
  p = fma(p, r, splat(1.6666665459e-1f));
  p = fma(p, r, splat(5.0000001201e-1f));
  const vf grown = fma(p, r * r, r);  // e^r - 1
  const vf power = (vf)((to_int(n) + 127) << 23);
  const vi opaque = tau > splat(87.f), bad = tau != tau;
  const vf pass = fma(power, grown, power), take = (splat(1.f) - power) - power * grown;
  *passed = select(bad, tau, select(opaque, splat(0.f), pass));
  *absorbed = select(bad, tau, select(opaque, splat(1.f), take));
}

// The first `count` (<= tile) samples from sigma, t0, t1 on. The arrays hold whole vectors.
PF_INLINE void absorb_tile(const float* sigma, const float* t0, const float* t1, int64_t count, float* absorbed,
                           float* passed) {
  for (int64_t i = 0; i < count; i += W) {
    const int64_t left = count - i;
    const bool whole = left >= W;
    const int part = (int)(whole ? W : left);
    const vf s = whole ? load(sigma + i) : load_part(sigma + i, part);
    const vf from = whole ? load(t0 + i) : load_part(t0 + i, part);
    const vf to = whole ? load(t1 + i) : load_part(t1 + i, part);
    const vf length = to - from;
    vf a, p;
    absorb(select(length > splat(0.f), s * length, splat(0.f)), &a, &p);
    store(absorbed + i, a);
    store(passed + i, p);
  }
}

// What the samples from `begin` to `end` absorb and pass on, a tile at a time whatever the rays' lengths.
struct Absorption {
  const float *sigma, *t0, *t1;
  int64_t from, to, end;  // the tile holds samples [from, to)
  float absorbed[tile], passed[tile];
};

// The end of the tile that holds sample n; samples are asked for in order, but some may be left out.
PF_INLINE int64_t tile_with(Absorption& a, int64_t n) {
  if (n >= a.to) {
    a.from = n;
    a.to = a.end - n < tile ? a.end : n + tile;
    absorb_tile(a.sigma + n, a.t0 + n, a.t1 + n, a.to - n, a.absorbed, a.passed);
  }
  return a.to;
}

void forward(const CompositeInputs& in, const CompositeOutputs& out, int64_t begin, int64_t end) {
  Absorption a;
  a.sigma = in.sigma;
  a.t0 = in.t0;
  a.t1 = in.t1;
  a.from = a.to = in.offsets[begin];
  a.end = in.offsets[end];
  for (int64_t r = begin; r < end; ++r) {
    float left = 1.f, red = 0.f, green = 0.f, blue = 0.f, depth = 0.f, opacity = 0.f;
    const int64_t stop = in.offsets[r + 1];
    for (int64_t n = in.offsets[r]; n < stop;) {
      const int64_t last = tile_with(a, n), until = stop < last ? stop : last;
      for (; n < until; ++n) {
        const float w = left * a.absorbed[n - a.from];
        left *= a.passed[n - a.from];
        out.weights[n] = w;
        const float* c = in.rgb + 3 * n;
        red += w * c[0];
        green += w * c[1];
        blue += w * c[2];
        depth += w * (0.5f * (in.t0[n] + in.t1[n]));
        opacity += w;
      }
    }
    const float* b = in.background + 3 * r;
    out.color[3 * r] = red + left * b[0];
    out.color[3 * r + 1] = green + left * b[1];
    out.color[3 * r + 2] = blue + left * b[2];
    out.depth[r] = depth;
    out.opacity[r] = opacity;
    out.left[r] = left;
  }
}

void backward(const CompositeInputs& in, const float* weights, const float* left, const CompositeCotangents& g,
              const CompositeGradients& out, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float red = g.color ? g.color[3 * r] : 0.f, green = g.color ? g.color[3 * r + 1] : 0.f,
                blue = g.color ? g.color[3 * r + 2] : 0.f;
    const float of_depth = g.depth ? g.depth[r] : 0.f, of_opacity = g.opacity ? g.opacity[r] : 0.f;
    const float* b = in.background + 3 * r;
    out.background[3 * r] = left[r] * red;
    out.background[3 * r + 1] = left[r] * green;
    out.background[3 * r + 2] = left[r] * blue;
    float behind = left[r];
    float rest = behind * (red * b[0] + green * b[1] + blue * b[2] + (g.left ? g.left[r] : 0.f));
    for (int64_t n = in.offsets[r + 1] - 1; n >= in.offsets[r]; --n) {
      const float w = weights[n], *c = in.rgb + 3 * n;
      const float worth = red * c[0] + green * c[1] + blue * c[2] + of_depth * (0.5f * (in.t0[n] + in.t1[n])) +
                          of_opacity + (g.weights ? g.weights[n] : 0.f);
      const float length = in.t1[n] - in.t0[n];
      out.sigma[n] = length > 0.f ? length * depth_gradient(behind, worth, rest) : 0.f;
      out.rgb[3 * n] = w * red;
      out.rgb[3 * n + 1] = w * green;
      out.rgb[3 * n + 2] = w * blue;
      behind += w;
      rest += w * worth;
    }
  }
}

void visible(const float* sigma, const float* t0, const float* t1, const int64_t* offsets, float min_transmittance,
             int64_t begin, int64_t end, float* through, int64_t* kept) {
  Absorption a;
  a.sigma = sigma;
  a.t0 = t0;
  a.t1 = t1;
  a.from = a.to = offsets[begin];
  a.end = offsets[end];
  for (int64_t r = begin; r < end; ++r) {
    float left = through != nullptr ? through[r] : 1.f;
    const int64_t first = offsets[r], stop = offsets[r + 1];
    int64_t n = first;
    while (n < stop && left >= min_transmittance) {
      const int64_t last = tile_with(a, n), until = stop < last ? stop : last;
      for (; n < until && left >= min_transmittance; ++n) left *= a.passed[n - a.from];
    }
    kept[r] = n - first;
    if (through != nullptr) through[r] = left;
  }
}

}  // namespace

extern const CompositeKernels composite = {forward, backward, visible};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
