#include "kernels/mesh_distance.h"

#include "kernels/mesh_nodes.h"
#include "simd.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

PF_INLINE Vec less(Vec a, vf t, Vec b) { return {fma(-t, b.x, a.x), fma(-t, b.y, a.y), fma(-t, b.z, a.z)}; }  // a - t b
PF_INLINE vf unit_part(vf t) { return min(max(t, splat(0.f)), splat(1.f)); }
PF_INLINE vf root(vf x) {
  float lane[W];
  store(lane, x);
  for (int i = 0; i < W; ++i) lane[i] = __builtin_sqrtf(lane[i]);
  return load(lane);
}

// The point in the mesh's units, or false where it is not finite.
PF_INLINE bool placed(const MeshTreeView& tree, const double* point, double* p) {
  for (int a = 0; a < 3; ++a) {
    if (!(__builtin_fabs(point[a]) <= __DBL_MAX__)) return false;
    p[a] = (point[a] - tree.middle[a]) / tree.size;
  }
  return true;
}

// In single precision; far beyond the mesh, where squares would overflow, only the direction counts.
PF_INLINE void rounded(const double* p, float* q) {
  constexpr double far = 1e14;
  for (int a = 0; a < 3; ++a) q[a] = (float)(p[a] < -far ? -far : p[a] > far ? far : p[a]);
}

PF_INLINE vf to_boxes(const float* box, const float* p) {
  vf square = splat(0.f);
  for (int a = 0; a < 3; ++a) {
    const vf gap = max(max(load(box + a * W) - p[a], p[a] - load(box + (3 + a) * W)), splat(0.f));
    square = fma(gap, gap, square);
  }
  return square;
}

// Squared distances to the triangles of a leaf: to the plane where the point lies above the triangle, else to the
// nearest edge. Nothing here divides by a small area, so that slivers are as exact as others: u and h are at right
// angles.
PF_INLINE vf to_triangles(const float* rows, const float* p) {
  const Vec a = load3(rows), u = load3(rows + 3 * W), v = load3(rows + 6 * W), h = load3(rows + 12 * W);
  const Vec q = Vec{splat(p[0]), splat(p[1]), splat(p[2])} - a;
  const vf qu = dot(q, u), qv = dot(q, v);
  const vf s = dot(q, load3(rows + 9 * W)), t = dot(q, h), along = qu * load(rows + 15 * W);
  const vi inside = (s >= splat(0.f)) & (t >= splat(0.f)) & (s + t <= splat(1.f));
  const Vec above = less(less(q, along, u), t * load(rows + 18 * W), h);
  const Vec on_u = less(q, unit_part(along), u), on_v = less(q, unit_part(qv * load(rows + 16 * W)), v);
  const Vec from_b = q - u, w = v - u;
  const Vec on_w = less(from_b, unit_part(dot(from_b, w) * load(rows + 17 * W)), w);
  const vf edges = min(min(dot(on_u, on_u), dot(on_v, on_v)), dot(on_w, on_w));
  return min(select(inside, dot(above, above), edges), edges);  // the edges where the other is NaN
}

struct Nearest {
  float square = __FLT_MAX__;  // to the best triangle so far
  float limit = __FLT_MAX__;   // boxes from here on hold nothing better
  int32_t face = -1;
};

// What lies at this squared distance, give or take 1e-6 of the mesh's size by rounding, is still worth a look: so
// which triangle wins does not depend on the order in which they are met. (d + e)^2 <= d^2 (1 + c) + e^2 (1 + 1 / c).
PF_INLINE float with_margin(float square) { return square * 1.001f + 1e-9f; }

PF_INLINE void look_at_leaf(const MeshTreeView& tree, int64_t leaf, const float* p, Nearest& best) {
  const vf squares = to_triangles(tree.triangles + leaf * 19 * W, p);
  uint32_t bits = bits_of(squares <= splat(best.square));
  if (bits == 0) return;
  float lane[W];
  store(lane, squares);
  for (; bits != 0; bits &= bits - 1) {
    const int i = __builtin_ctz(bits);
    const int32_t face = tree.faces[leaf * W + i];
    if (lane[i] > best.square || (lane[i] == best.square && best.face >= 0 && face > best.face)) continue;
    best.square = lane[i];
    best.face = face;
  }
  const float limit = with_margin(best.square);
  if (limit < best.limit) best.limit = limit;
}

PF_INLINE void search(const MeshTreeView& tree, const float* p, Nearest& best) {
  Waiting waiting;
  waiting.begin(tree);
  while (waiting.count > 0) {
    const int64_t name = waiting.names[--waiting.count], index = index_of(name);
    if (waiting.reach[waiting.count] > best.limit) continue;
    const int level = level_of(name);
    if (level < 0) {
      look_at_leaf(tree, index, p, best);
      continue;
    }
    const vf squares = to_boxes(tree.boxes + (tree.first[level] + index) * 6 * W, p);
    waiting.add(squares, bits_of(squares <= splat(best.limit)), level - 1, index * W);
  }
}

// Squared distance, and the closest point less the point itself, in double precision.
double closest_on_face(const MeshTreeView& tree, int32_t face, const double* point, double* offset) {
  double a[3], u[3], v[3], w[3], b[3];
  for (int i = 0; i < 3; ++i) {
    const double from = tree.vertices[3 * (int64_t)tree.corners[3 * (int64_t)face] + i];
    u[i] = tree.vertices[3 * (int64_t)tree.corners[3 * (int64_t)face + 1] + i] - from;
    v[i] = tree.vertices[3 * (int64_t)tree.corners[3 * (int64_t)face + 2] + i] - from;
    a[i] = from - point[i];
    b[i] = a[i] + u[i];
    w[i] = v[i] - u[i];
  }
  const double uu = dot(u, u), uv = dot(u, v), vv = dot(v, v), au = dot(a, u), av = dot(a, v), ww = dot(w, w);
  const double square = uu * vv - uv * uv, s = uv * av - vv * au, t = uv * au - uu * av;
  const double along[3] = {uu > 0 ? unit_part(-au / uu) : 0, vv > 0 ? unit_part(-av / vv) : 0,
                           ww > 0 ? unit_part(-dot(b, w) / ww) : 0};
  const bool inside = square > 0 && s >= 0 && t >= 0 && s + t <= square;
  double nearest = dot(a, a);  // to a corner, should all else overflow
  for (int i = 0; i < 3; ++i) offset[i] = a[i];
  for (int k = inside ? -1 : 0; k < 3; ++k) {
    double to[3];
    for (int i = 0; i < 3; ++i)
      to[i] = k < 0    ? a[i] + s / square * u[i] + t / square * v[i]
              : k == 0 ? a[i] + along[0] * u[i]
              : k == 1 ? a[i] + along[1] * v[i]
                       : b[i] + along[2] * w[i];
    const double here = dot(to, to);
    if (!(here < nearest)) continue;
    nearest = here;
    for (int i = 0; i < 3; ++i) offset[i] = to[i];
  }
  return nearest;
}

// A point further on in the order lies anywhere in memory.
PF_INLINE void ask_for(const double* points, const int32_t* order, int64_t i, int64_t end) {
  constexpr int64_t ahead = 8;
  if (i + ahead < end) __builtin_prefetch(points + 3 * (int64_t)order[i + ahead]);
}

void closest(const MeshTreeView& tree, const double* points, const int32_t* order, int64_t begin, int64_t end,
             float* distance, int64_t* face, float* closest) {
  float seed[3];  // the closest point of the one before: the next will find something at most as far
  bool seeded = false;
  for (int64_t i = begin; i < end; ++i) {
    ask_for(points, order, i, end);
    const int64_t n = order[i];
    double point[3];
    if (!placed(tree, points + 3 * n, point)) {
      distance[n] = closest[3 * n] = closest[3 * n + 1] = closest[3 * n + 2] = __builtin_nanf("");
      face[n] = -1;
      continue;
    }
    float p[3];
    rounded(point, p);
    Nearest best;
    if (seeded) {
      float square = 0.f;
      for (int a = 0; a < 3; ++a) square += (p[a] - seed[a]) * (p[a] - seed[a]);
      best.square = best.limit = with_margin(square);
    }
    search(tree, p, best);
    double offset[3], end_point[3];
    const double square = closest_on_face(tree, best.face, point, offset);
    distance[n] = (float)(__builtin_sqrt(square) * tree.size);
    face[n] = best.face;
    for (int a = 0; a < 3; ++a) {
      end_point[a] = point[a] + offset[a];
      closest[3 * n + a] = (float)(end_point[a] * tree.size + tree.middle[a]);
    }
    // From very far away the sum has lost the mesh, and from where it then lies nothing may be near enough.
    seeded = square < 1e12;
    rounded(end_point, seed);
  }
}

// atan2 to 2e-7; 0 where both are 0. The arctangent on [0, 1] is an odd polynomial, fitted by weighted least squares.
PF_INLINE vf arctangent(vf y, vf x) {
  const vi sign = (vi)splat(-0.f);
  const vf up = (vf)((vi)y & ~sign), aside = (vf)((vi)x & ~sign);
  const vf longer = max(up, aside), t = min(up, aside) / max(longer, splat(1e-37f)), z = t * t;
  vf p = splat(-4.054567310959101e-3f);
  p = fma(p, z, splat(2.1862957626581192e-2f));
  p = fma(p, z, splat(-5.59123270213604e-2f));
  p = fma(p, z, splat(9.64219719171524e-2f));
  p = fma(p, z, splat(-0.1390862911939621f));
  p = fma(p, z, splat(0.19946566224098206f));
  p = fma(p, z, splat(-0.33329859375953674f));
  p = fma(p, z, splat(0.9999993443489075f)) * t;
  p = select(up > aside, splat(1.57079632679f) - p, p);
  p = select(x < splat(0.f), splat(3.14159265359f) - p, p);
  return (vf)((vi)p | ((vi)y & sign));
}

// Half the solid angles of the triangles of a leaf, positive where they are seen from behind (van Oosterom and
// Strackee 1983).
PF_INLINE vf half_angles(const float* rows, const float* p) {
  const Vec a = load3(rows) - Vec{splat(p[0]), splat(p[1]), splat(p[2])};
  const Vec u = load3(rows + 3 * W), v = load3(rows + 6 * W);
  const Vec b = a + u, c = a + v;
  const Vec normal = cross(u, v);
  const vf to_a = root(dot(a, a)), to_b = root(dot(b, b)), to_c = root(dot(c, c));
  const vf below = fma(to_a * to_b, to_c, fma(dot(a, b), to_c, fma(dot(b, c), to_a, dot(c, a) * to_b)));
  return arctangent(dot(a, normal), below);
}

PF_INLINE float winding_at(const MeshTreeView& tree, const float* p) {
  vf halves = splat(0.f), dipoles = splat(0.f);
  Waiting waiting;
  waiting.begin(tree);
  while (waiting.count > 0) {
    const int64_t name = waiting.names[--waiting.count], index = index_of(name);
    const int level = level_of(name);
    if (level < 0) {
      halves += half_angles(tree.triangles + index * 19 * W, p);
      continue;
    }
    const float* rows = tree.dipoles + (tree.first[level] + index) * 7 * W;
    const Vec to = load3(rows) - Vec{splat(p[0]), splat(p[1]), splat(p[2])};
    const vf square = dot(to, to);
    const vi near = square <= load(rows + 6 * W);
    const vf flux = dot(load3(rows + 3 * W), to) / (square * root(square));
    dipoles += select(near, splat(0.f), flux);
    for (uint32_t bits = bits_of(near); bits != 0; bits &= bits - 1)
      waiting.names[waiting.count++] = named(level - 1, index * W + __builtin_ctz(bits));
  }
  return sum(halves) * 0.159154943092f + sum(dipoles) * 0.0795774715459f;  // of 2 pi, of 4 pi
}

// Whether one of two points lies in the ball about the other that no surface enters.
PF_INLINE bool share_side(const double* points, const float* free, int64_t m, int64_t n) {
  const double *a = points + 3 * m, *b = points + 3 * n, reach = free[m] > free[n] ? free[m] : free[n];
  double square = 0;
  for (int i = 0; i < 3; ++i) square += (a[i] - b[i]) * (a[i] - b[i]);
  // The distance is rounded to float; one that is too far for a float says nothing.
  return reach <= 3e38 && square < 0.999 * reach * reach;
}

void winding(const MeshTreeView& tree, const double* points, const int32_t* order, const float* free, int64_t begin,
             int64_t end, float* winding) {
  int64_t before = -1;
  for (int64_t i = begin; i < end; ++i) {
    ask_for(points, order, i, end);
    const int64_t n = order[i];
    double point[3];
    float p[3];
    if (free != nullptr && before >= 0 && share_side(points, free, before, n)) {
      winding[n] = winding[before];
    } else if (placed(tree, points + 3 * n, point)) {
      rounded(point, p);
      winding[n] = winding_at(tree, p);
    } else {
      winding[n] = __builtin_nanf("");
      continue;
    }
    before = n;
  }
}

}  // namespace

extern const MeshDistanceKernels mesh_distance = {W, closest, winding};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
