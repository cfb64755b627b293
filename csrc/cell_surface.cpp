#include "cell_surface.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <vector>

namespace polyfield {
namespace {

using Point = std::array<double, 3>;
using Loop = std::vector<int>;  // edges, in the order in which the surface's border meets them

struct Edge {
  int from, to;  // corners, the second a step further along the axis
  int axis;      // 0: i, 1: j, 2: k
};

constexpr Edge edges[12] = {{0, 1, 2}, {2, 3, 2}, {4, 5, 2}, {6, 7, 2}, {0, 2, 1}, {1, 3, 1},
                            {4, 6, 1}, {5, 7, 1}, {0, 4, 0}, {1, 5, 0}, {2, 6, 0}, {3, 7, 0}};

// Corners of the faces, anticlockwise as seen from outside: i = 0 and 1, j = 0 and 1, k = 0 and 1.
constexpr int faces[6][4] = {{0, 1, 3, 2}, {4, 6, 7, 5}, {0, 4, 5, 1}, {2, 3, 7, 6}, {0, 2, 6, 4}, {1, 5, 7, 3}};

int edge_between(int a, int b) {
  for (int e = 0; e < 12; ++e)
    if ((edges[e].from == std::min(a, b)) && (edges[e].to == std::max(a, b))) return e;
  return -1;
}

// Which faces an edge lies on, as bits.
unsigned faces_of(int edge) {
  unsigned bits = 0;
  for (int f = 0; f < 6; ++f) {
    const auto on = [&](int corner) { return std::find(faces[f], faces[f] + 4, corner) != faces[f] + 4; };
    if (on(edges[edge].from) && on(edges[edge].to)) bits |= 1u << f;
  }
  return bits;
}

struct Incidence {
  unsigned of[12];
  int sides[6][4];  // edges of each face, from a corner to the next
  Incidence() {
    for (int e = 0; e < 12; ++e) of[e] = faces_of(e);
    for (int f = 0; f < 6; ++f)
      for (int s = 0; s < 4; ++s) sides[f][s] = edge_between(faces[f][s], faces[f][(s + 1) % 4]);
  }
};

const Incidence& incidence() {
  static const Incidence made;
  return made;
}

bool share_face(int a, int b) { return (incidence().of[a] & incidence().of[b]) != 0; }

// On a face whose signs alternate: the first of the two opposite corners, 0 or 1, that are connected in it, those above
// 0 where the function is above 0 at its saddle. Else -1.
int joined_corner(const double (&face)[4]) {
  const bool inside = face[0] > 0;
  if (inside != (face[2] > 0) || inside == (face[1] > 0) || inside == (face[3] > 0)) return -1;
  const double even = face[0] * face[2], odd = face[1] * face[3];
  return (inside ? even > odd : odd > even) == inside ? 0 : 1;
}

// What a function has at the corners of a face.
struct FaceValues {
  double at[4];
  FaceValues(const double (&values)[8], const int (&corners)[4]) {
    for (int s = 0; s < 4; ++s) at[s] = values[corners[s]];
  }
};

// Corners that are connected, those above 0 among each other and the others too.
struct Regions {
  int of[8];
  Regions() { std::iota(of, of + 8, 0); }
  void join(int a, int b) {
    const int from = of[b], to = of[a];
    for (int& region : of)
      if (region == from) region = to;
  }
};

// Joins the corners of a face that are connected in it.
void join_on_face(const double (&values)[4], const int (&corners)[4], Regions& regions) {
  for (int s = 0; s < 4; ++s)
    if ((values[s] > 0) == (values[(s + 1) % 4] > 0)) regions.join(corners[s], corners[(s + 1) % 4]);
  const int one = joined_corner(values);
  if (one >= 0) regions.join(corners[one], corners[one + 2]);
}

// What is connected in the cell. In a slice across i every region touches one of the four edges along i, and what is
// connected changes only where one of these is crossed or the saddle passes 0; a region goes on from slice to slice
// along an edge as long as this has one sign.
Regions regions_of(const double (&values)[8]) {
  Regions regions;
  for (const auto& face : faces) join_on_face(FaceValues(values, face).at, face, regions);
  constexpr int low[4] = {0, 1, 3, 2};
  double begin[4], slope[4];
  for (int c = 0; c < 4; ++c) {
    begin[c] = values[low[c]];
    slope[c] = values[low[c] + 4] - begin[c];
  }
  std::vector<double> events = {0.0, 1.0};
  const auto add = [&](double t) {
    if (t > 0 && t < 1) events.push_back(t);
  };
  for (int c = 0; c < 4; ++c) add(-begin[c] / slope[c]);
  const double a = slope[0] * slope[2] - slope[1] * slope[3], c = begin[0] * begin[2] - begin[1] * begin[3];
  const double b = begin[0] * slope[2] + slope[0] * begin[2] - begin[1] * slope[3] - slope[1] * begin[3];
  const double root = b * b - 4 * a * c;
  if (root > 0) {
    const double q = -0.5 * (b + std::copysign(std::sqrt(root), b));
    add(q / a);
    add(c / q);
  }
  std::sort(events.begin(), events.end());
  for (std::size_t e = 0; e + 1 < events.size(); ++e) {
    const double t = 0.5 * (events[e] + events[e + 1]);
    double slice[4];
    int corners[4];
    for (int s = 0; s < 4; ++s) {
      slice[s] = begin[s] + t * slope[s];
      // The end of the edge that has this sign; along an edge there is one crossing at most.
      corners[s] = (slice[s] > 0) == (begin[s] > 0) ? low[s] : low[s] + 4;
    }
    join_on_face(slice, corners, regions);
  }
  return regions;
}

// Borders of the surface on the cell's faces.
std::vector<Loop> loops_of(const double (&values)[8]) {
  int next[12];
  std::fill(next, next + 12, -1);
  for (int f = 0; f < 6; ++f) {
    const FaceValues face(values, faces[f]);
    const auto& sides = incidence().sides[f];
    const auto inside = [&](int s) { return face.at[s % 4] > 0; };
    const int joined = joined_corner(face.at);
    const bool across = joined >= 0 && inside(joined);
    for (int s = 0; s < 4; ++s) {
      if (!inside(s) || inside(s + 1)) continue;
      // Here the way round the face comes out of what is inside; the border gets here from where it had come in, or,
      // where what is inside is connected, from where it comes in again.
      int in = s + 1;
      if (!across)
        for (in = s + 3; inside(in); in += 3) {
        }
      next[sides[in % 4]] = sides[s];
    }
  }
  std::vector<Loop> loops;
  bool seen[12] = {};
  for (int e = 0; e < 12; ++e) {
    if (next[e] < 0 || seen[e]) continue;
    loops.emplace_back();
    for (int at = e; !seen[at]; at = next[at]) {
      seen[at] = true;
      loops.back().push_back(at);
    }
  }
  return loops;
}

double squared(const Point& a, const Point& b) {
  double sum = 0;
  for (int axis = 0; axis < 3; ++axis) sum += (a[axis] - b[axis]) * (a[axis] - b[axis]);
  return sum;
}

// Makes the triangles, one piece of the surface after the other.
class Weaver {
 public:
  Weaver(const double (&values)[8], CellSurface& surface) : values_(values), surface_(surface) {
    for (int e = 0; e < 12; ++e) {
      const double one = values[edges[e].from], other = values[edges[e].to];
      for (int axis = 0; axis < 3; ++axis) places_[e][axis] = edges[e].from >> (2 - axis) & 1;
      if ((one > 0) != (other > 0)) places_[e][edges[e].axis] = one / (one - other);
    }
  }

  // A piece with one border. A diagonal between two edges of one face would lie in that face, where the neighbour's
  // may lie too: where none else are to be had, all corners are joined to one in the middle.
  void disc(const Loop& loop) {
    const int n = (int)loop.size();
    // The shortest diagonals that cut the corners from one to another off from the others, and at which corner.
    std::array<std::array<double, 12>, 12> length{};
    std::array<std::array<int, 12>, 12> tip{};
    for (int span = 2; span < n; ++span)
      for (int a = 0; a + span < n; ++a) {
        const int b = a + span;
        length[a][b] = HUGE_VAL;
        for (int c = a + 1; c < b; ++c) {
          const double sum = length[a][c] + length[c][b];
          if (sum < length[a][b]) {
            length[a][b] = sum;
            tip[a][b] = c;
          }
        }
        if (span < n - 1) length[a][b] += forbidden(loop[a], loop[b]) ? HUGE_VAL : squared(at(loop[a]), at(loop[b]));
      }
    if (length[0][n - 1] < HUGE_VAL) {
      cut(loop, tip, 0, n - 1);
      return;
    }
    Point middle{};
    for (const int v : loop)
      for (int axis = 0; axis < 3; ++axis) middle[axis] += at(v)[axis] / n;
    const int center = add(middle);
    for (int s = 0; s < n; ++s) triangle(loop[s], loop[(s + 1) % n], center);
  }

  // A piece with two borders; a ring of vertices between them where diagonals would lie in faces.
  void tunnel(const Loop& one, const Loop& other) {
    if (strip(one, other)) return;
    const int n = (int)one.size();
    Loop ring;
    for (const int v : one) {
      const int near = *std::min_element(other.begin(), other.end(), [&](int a, int b) {
        return squared(at(a), at(v)) < squared(at(b), at(v));
      });
      Point middle;
      for (int axis = 0; axis < 3; ++axis) middle[axis] = 0.5 * (at(v)[axis] + at(near)[axis]);
      ring.push_back(add(middle));
    }
    for (int s = 0; s < n; ++s) {
      triangle(one[s], one[(s + 1) % n], ring[s]);
      triangle(one[(s + 1) % n], ring[(s + 1) % n], ring[s]);
    }
    strip(ring, other);
  }

 private:
  const Point& at(int vertex) const { return places_[vertex]; }
  static bool forbidden(int a, int b) { return a < 12 && b < 12 && share_face(a, b); }

  void triangle(int a, int b, int c) {
    uint8_t* corners = surface_.triangles[surface_.triangle_count++];
    corners[0] = (uint8_t)a;
    corners[1] = (uint8_t)b;
    corners[2] = (uint8_t)c;
  }

  void cut(const Loop& loop, const std::array<std::array<int, 12>, 12>& tip, int a, int b) {
    if (b - a < 2) return;
    const int c = tip[a][b];
    triangle(loop[a], loop[c], loop[b]);
    cut(loop, tip, a, c);
    cut(loop, tip, c, b);
  }

  // A vertex in the cell, drawn to the surface.
  int add(Point place) {
    for (int turn = 0; turn < 4; ++turn) {
      double value = 0, slope[3] = {};
      for (int c = 0; c < 8; ++c) {
        double part[3];
        for (int axis = 0; axis < 3; ++axis) part[axis] = c >> (2 - axis) & 1 ? place[axis] : 1 - place[axis];
        value += values_[c] * part[0] * part[1] * part[2];
        for (int axis = 0; axis < 3; ++axis)
          slope[axis] += values_[c] * (c >> (2 - axis) & 1 ? 1 : -1) * part[(axis + 1) % 3] * part[(axis + 2) % 3];
      }
      const double square = slope[0] * slope[0] + slope[1] * slope[1] + slope[2] * slope[2];
      if (!(square > 0)) break;
      for (int axis = 0; axis < 3; ++axis)
        place[axis] = std::clamp(place[axis] - value * slope[axis] / square, 0.02, 0.98);
    }
    for (int axis = 0; axis < 3; ++axis) {
      place[axis] = std::clamp(place[axis], 0.02, 0.98);
      surface_.own[surface_.own_count][axis] = (float)place[axis];
    }
    places_[12 + surface_.own_count] = place;
    return 12 + surface_.own_count++;
  }

  // A way along two borders, forwards along one and backwards along the other: bit s says that step s is along the
  // other, which it begins at its corner `turn`.
  struct Way {
    int turn = 0;
    unsigned bits = 0;
    double length = HUGE_VAL;  // of all edges across: without end where one is forbidden, or there twice
  };

  // Triangles between two borders, with short edges across; false, and none, where all ways have forbidden ones.
  bool strip(const Loop& one, const Loop& other) {
    const int n = (int)one.size(), m = (int)other.size();
    Way best;
    for (int turn = 0; turn < m; ++turn)
      for (const Way& way : {shortest(one, other, turn), even(one, other, turn)})
        if (way.length < best.length) best = way;
    if (!(best.length < HUGE_VAL)) return false;
    for (int a = 0, b = 0; a + b < n + m;) {
      const int here = one[a % n], there = backwards(other, best.turn, b);
      if (best.bits >> (a + b) & 1) {
        ++b;
        triangle(backwards(other, best.turn, b), there, here);
      } else {
        ++a;
        triangle(here, one[a % n], there);
      }
    }
    return true;
  }

  // Never far ahead on one side.
  Way even(const Loop& one, const Loop& other, int turn) const {
    const int n = (int)one.size(), m = (int)other.size();
    Way way{turn, 0, 0};
    for (int a = 0, b = 0; a + b < n + m;)
      if ((2 * b + 1) * n < (2 * a + 1) * m)
        way.bits |= 1u << (a + b), ++b;
      else
        ++a;
    measure(one, other, way);
    return way;
  }

  Way shortest(const Loop& one, const Loop& other, int turn) const {
    const int n = (int)one.size(), m = (int)other.size();
    // The shortest ways to each pair of corners, by the last step to it.
    double length[13][13];
    unsigned bits[13][13] = {};
    for (int a = 0; a <= n; ++a)
      for (int b = 0; b <= m; ++b) {
        const double ahead = a > 0 ? length[a - 1][b] : HUGE_VAL, back = b > 0 ? length[a][b - 1] : HUGE_VAL;
        length[a][b] = across(one[a % n], backwards(other, turn, b)) + (a + b > 0 ? std::min(ahead, back) : 0);
        if (a + b > 0) bits[a][b] = ahead <= back && a > 0 ? bits[a - 1][b] : bits[a][b - 1] | 1u << (a + b - 1);
      }
    Way way{turn, bits[n][m], 0};
    measure(one, other, way);
    return way;
  }

  // The corner of a border after some steps backwards from where they begin.
  static int backwards(const Loop& loop, int turn, int steps) {
    const int m = (int)loop.size();
    return loop[(turn + 2 * m - steps) % m];
  }

  double across(int a, int b) const { return forbidden(a, b) ? HUGE_VAL : squared(at(a), at(b)); }

  void measure(const Loop& one, const Loop& other, Way& way) const {
    const int n = (int)one.size(), m = (int)other.size();
    bool met[12][12] = {};
    for (int a = 0, b = 0; a + b < n + m; way.bits >> (a + b) & 1 ? ++b : ++a) {
      bool& twice = met[a % n][b % m];
      way.length += twice ? HUGE_VAL : across(one[a % n], backwards(other, way.turn, b));
      twice = true;
    }
  }

  const double (&values_)[8];
  CellSurface& surface_;
  std::array<Point, 12 + CellSurface::most_own> places_{};
};

}  // namespace

CellSurface cell_surface(const double (&values)[8]) {
  CellSurface surface;
  Weaver weaver(values, surface);
  const std::vector<Loop> loops = loops_of(values);
  if (loops.size() < 2) {
    for (const Loop& loop : loops) weaver.disc(loop);
    return surface;
  }
  // What bounds the same two regions is one piece.
  const Regions regions = regions_of(values);
  std::vector<std::array<int, 2>> sides;
  for (const Loop& loop : loops) {
    const Edge& edge = edges[loop[0]];
    const bool up = values[edge.to] > 0;
    sides.push_back({regions.of[up ? edge.to : edge.from], regions.of[up ? edge.from : edge.to]});
  }
  std::vector<bool> done(loops.size());
  for (std::size_t one = 0; one < loops.size(); ++one) {
    if (done[one]) continue;
    const auto other = std::find(sides.begin() + one + 1, sides.end(), sides[one]) - sides.begin();
    if (other < (std::ptrdiff_t)loops.size()) {
      done[other] = true;
      weaver.tunnel(loops[one], loops[other]);
    } else {
      weaver.disc(loops[one]);
    }
  }
  return surface;
}

const CellTable& cell_table() {
  static const CellTable made = [] {
    CellTable table = {};
    for (int code = 0; code < 256; ++code) {
      double values[8];
      for (int c = 0; c < 8; ++c) values[c] = code >> c & 1 ? 1 : -1;
      bool alternating = false;
      for (const auto& face : faces) alternating |= joined_corner(FaceValues(values, face).at) >= 0;
      // Several pieces without such a face may be connected through the cell.
      const std::vector<Loop> loops = loops_of(values);
      if (alternating || loops.size() > 1) {
        table.count[code] = irregular_cell;
        continue;
      }
      const CellSurface surface = cell_surface(values);
      table.count[code] = (uint8_t)surface.triangle_count;
      for (int t = 0; t < surface.triangle_count; ++t)
        for (int corner = 0; corner < 3; ++corner) table.edges[code][3 * t + corner] = surface.triangles[t][corner];
    }
    return table;
  }();
  return made;
}

}  // namespace polyfield
