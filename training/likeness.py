"""How alike two models look."""

from polyfield.fields.model import Model
from polyfield.renderers.registry import renderer_for
from polyfield.training.capture import captured_cameras, captured_views
from polyfield.training.evaluation import draw_view
from polyfield.training.metrics import BEST_PSNR, psnr
from polyfield.training.viewpoints import around

__all__ = ["likeness"]

_VIEWS, _PIXELS = 16, 1 << 20  # that are drawn at most, unless one view alone has more


def likeness(student: Model, teacher: Model) -> tuple[float, int]:
    """Compare what two models show, on the teacher's background.

    They are looked at from the held-out views of the teacher's capture; where there are none from its training views,
    and without a capture from around its box.

    Args:
        student: A radiance model.
        teacher: Another one.

    Returns:
        PSNR, dB: the mean over views, of which each counts as `BEST_PSNR` at most; and the number of views.
    """
    views = captured_views(teacher, "test") or captured_views(teacher, "train")
    cameras = captured_cameras(teacher) if views else around(teacher)
    views = views or list(range(len(cameras)))
    pixels = int(cameras.size[views[0]].prod())
    count = min(len(views), _VIEWS, max(1, _PIXELS // pixels))
    chosen = [views[i * len(views) // count] for i in range(count)]
    renderers = [renderer_for(model) for model in (student, teacher)]
    total = 0.0
    for view in chosen:
        mine, theirs = (
            draw_view(renderer, cameras, view, teacher.background).color for renderer in renderers
        )
        total += min(psnr(mine, theirs), BEST_PSNR)
    return total / count, count
