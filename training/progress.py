"""What a run tells while it goes on."""

from dataclasses import dataclass

__all__ = ["Progress"]


@dataclass(frozen=True)
class Progress:
    """State of a run, sent to the `on_progress` callback about once a second.

    Attributes:
        step: Steps done.
        steps: Steps planned, None while the plan is being made.
        seconds: Since the budget's clock started.
        seconds_left: Estimate, None while unknown.
        loss: Running mean of the loss.
        psnr: Running PSNR of the training rays in dB, None when the loss is not of colours.
        samples_per_second: Samples along rays.
        rays: Rays in the last step.
        message: A sentence worth its own line ("reading 100 images", "saved at step 500"), or "".
    """

    step: int = 0
    steps: int | None = None
    seconds: float = 0.0
    seconds_left: float | None = None
    loss: float | None = None
    psnr: float | None = None
    samples_per_second: float = 0.0
    rays: int = 0
    message: str = ""
