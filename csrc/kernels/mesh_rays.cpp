#include "kernels/mesh_rays.h"

#include "kernels/mesh_nodes.h"
#include "simd.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

// How far beside a triangle a ray still meets it, in its edges: neighbours leave no crack between them.
constexpr float beside = 1e-5f;

struct Ray {
  double origin[3], direction[3];  // in the mesh's units; the origin is where the box around the mesh is entered
  float from[3], along[3], inverse[3];
  double skipped;  // from the ray's own origin, in the mesh's units
};

// A ray in the mesh's units, or false where it is not finite or misses the box around the mesh.
PF_INLINE bool placed(const MeshTreeView& tree, const float* origin, const float* direction, Ray& ray) {
  double enter = 0, leave = __DBL_MAX__;
  for (int a = 0; a < 3; ++a) {
    const double o = ((double)origin[a] - tree.middle[a]) / tree.size, d = direction[a];
    if (!(__builtin_fabs(o) <= __DBL_MAX__) || !(__builtin_fabs(d) <= 2)) return false;
    constexpr double wide = 1.0001;
    double one = (-wide - o) / d, other = (wide - o) / d;
    if (d == 0) one = __builtin_fabs(o) <= wide ? -__DBL_MAX__ : __DBL_MAX__, other = -one;
    if (one > other) {
      const double kept = one;
      one = other, other = kept;
    }
    if (one > enter) enter = one;
    if (other < leave) leave = other;
    ray.origin[a] = o, ray.direction[a] = d;
  }
  if (!(enter <= leave)) return false;
  ray.skipped = enter;
  for (int a = 0; a < 3; ++a) {
    ray.origin[a] += enter * ray.direction[a];
    ray.from[a] = (float)ray.origin[a];
    ray.along[a] = (float)ray.direction[a];
    constexpr float tiny = 1e-30f;  // instead of 0, of which no inverse is taken
    const float d = ray.along[a];
    ray.inverse[a] = 1.f / (d > tiny || d < -tiny ? d : tiny);
  }
  return true;
}

// Where the ray enters the boxes of a node; beyond every limit where it misses one. Which side comes first the ray's
// sign says, not the smaller distance: the box of a lane without a child ends before it begins, and so is missed.
// Boxes are as much wider as a triangle may be missed by: a ray may run along a side.
PF_INLINE vf enters(const float* box, const Ray& ray) {
  vf enter = splat(0.f), leave = splat(__FLT_MAX__);
  for (int a = 0; a < 3; ++a) {
    const int first = ray.inverse[a] < 0 ? 3 + a : a, last = ray.inverse[a] < 0 ? a : 3 + a;
    const float wider = ray.inverse[a] < 0 ? -beside : beside;
    enter = max((load(box + first * W) - (ray.from[a] + wider)) * ray.inverse[a], enter);
    leave = min((load(box + last * W) - (ray.from[a] - wider)) * ray.inverse[a], leave);
  }
  return select(enter <= fma(leave, splat(1.00001f), splat(1e-6f)), enter, splat(__builtin_inff()));
}

// Where the ray meets the triangles of a leaf (Moeller and Trumbore 1997); infinity where it does not.
PF_INLINE vf meets(const float* rows, const Ray& ray) {
  const Vec d = {splat(ray.along[0]), splat(ray.along[1]), splat(ray.along[2])};
  const Vec from = {splat(ray.from[0]), splat(ray.from[1]), splat(ray.from[2])};
  const Vec u = load3(rows + 3 * W), v = load3(rows + 6 * W), to = from - load3(rows);
  const Vec p = cross(d, v), q = cross(to, u);
  const vf inverse = splat(1.f) / dot(u, p);
  const vf b = dot(to, p) * inverse, c = dot(d, q) * inverse, t = dot(v, q) * inverse;
  const vi met = (b >= splat(-beside)) & (c >= splat(-beside)) & (b + c <= splat(1.f + beside)) & (t >= splat(-1e-6f));
  return select(met, t, splat(__builtin_inff()));
}

struct Hit {
  float t = __builtin_inff();
  int32_t face = -1;
};

PF_INLINE void look_at_leaf(const MeshTreeView& tree, int64_t leaf, const Ray& ray, Hit& best) {
  const vf distances = meets(tree.triangles + leaf * 19 * W, ray);
  uint32_t bits = bits_of((distances <= splat(best.t)) & (distances <= splat(__FLT_MAX__)));
  if (bits == 0) return;
  float lane[W];
  store(lane, distances);
  for (; bits != 0; bits &= bits - 1) {
    const int i = __builtin_ctz(bits);
    const int32_t face = tree.faces[leaf * W + i];
    // Of triangles at one place the lowest, in whatever order they are met.
    if (lane[i] > best.t || (lane[i] == best.t && best.face >= 0 && face > best.face)) continue;
    best.t = lane[i];
    best.face = face;
  }
}

PF_INLINE Hit search(const MeshTreeView& tree, const Ray& ray) {
  Hit best;
  Waiting waiting;
  waiting.begin(tree);
  while (waiting.count > 0) {
    const int64_t name = waiting.names[--waiting.count], index = index_of(name);
    if (waiting.reach[waiting.count] > best.t) continue;
    const int level = level_of(name);
    if (level < 0) {
      look_at_leaf(tree, index, ray, best);
      continue;
    }
    const vf enter = enters(tree.boxes + (tree.first[level] + index) * 6 * W, ray);
    const float limit = best.t < __FLT_MAX__ ? best.t : __FLT_MAX__;
    waiting.add(enter, bits_of(enter <= splat(limit)), level - 1, index * W);
  }
  return best;
}

void cross(const double* a, const double* b, double* out) {
  for (int i = 0; i < 3; ++i) out[i] = a[(i + 1) % 3] * b[(i + 2) % 3] - a[(i + 2) % 3] * b[(i + 1) % 3];
}

// Distance from where the ray entered and weights, in double precision: as exact on slivers as elsewhere.
double refined(const MeshTreeView& tree, const Ray& ray, const Hit& hit, float* weights) {
  double u[3], v[3], to[3], p[3], q[3];
  for (int i = 0; i < 3; ++i) {
    const int32_t* corners = tree.corners + 3 * (int64_t)hit.face;
    const double from = tree.vertices[3 * (int64_t)corners[0] + i];
    u[i] = tree.vertices[3 * (int64_t)corners[1] + i] - from;
    v[i] = tree.vertices[3 * (int64_t)corners[2] + i] - from;
    to[i] = ray.origin[i] - from;
  }
  cross(ray.direction, v, p);
  cross(to, u, q);
  const double det = dot(u, p);
  if (det == 0) {
    weights[0] = weights[1] = 0.f;
    return hit.t;
  }
  const double b = unit_part(dot(to, p) / det), c = unit_part(dot(ray.direction, q) / det), t = dot(v, q) / det;
  weights[0] = (float)b;
  weights[1] = (float)(b + c > 1 ? 1 - b : c);
  return t > 0 ? t : 0;
}

void first_hits(const MeshTreeView& tree, const float* origins, const float* directions, int64_t begin, int64_t end,
                float* distance, int64_t* face, float* weights) {
  for (int64_t i = begin; i < end; ++i) {
    Ray ray;
    Hit hit;
    if (placed(tree, origins + 3 * i, directions + 3 * i, ray)) hit = search(tree, ray);
    face[i] = hit.face;
    if (hit.face < 0) {
      distance[i] = __builtin_inff();
      weights[2 * i] = weights[2 * i + 1] = 0.f;
    } else {
      distance[i] = (float)((ray.skipped + refined(tree, ray, hit, weights + 2 * i)) * tree.size);
    }
  }
}

}  // namespace

extern const MeshRayKernels mesh_rays = {first_hits};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
