"""What the text over the picture says. Plain strings: drawing them is the window's business."""

from engine.actions import Action
from engine.player.session import Status


def hud_lines(status: Status, latency_ms: float | None) -> list[str]:
    """The header, a few short lines.

    Args:
        status: the newest state of the game.
        latency_ms: p50 from an event (key, mouse) to the picture that contains it; None before the first.
    """
    speed = f"{status.fps:.1f} fps   {status.frame_ms:.1f} ms a frame"
    if latency_ms is not None:
        speed += f"   {latency_ms:.0f} ms from input to picture"
    lines = [
        speed,
        f"{status.world}   {status.sampling}   spawn {status.spawn}"
        f"   frame {status.frame_index} of {status.horizon}",
        f"{status.control}: {action_text(status.action) or '-'}   (mouse x{status.mouse_multiplier:.3g})",
    ]
    if status.recording:
        lines.append(f"recording {status.recording}")
    if status.paused:
        lines.append("paused")
    if status.message:
        lines.append(status.message)
    return lines


def action_text(action: Action) -> str:
    """An action in words: "w + space   mouse +30 -4   left click"; "" for doing nothing."""
    parts = [" + ".join(sorted(action.keys))]
    if action.mouse_dx or action.mouse_dy:
        parts.append(f"mouse {action.mouse_dx:+g} {action.mouse_dy:+g}")
    parts += [
        name
        for name, down in (("left click", action.left_click), ("right click", action.right_click))
        if down
    ]
    return "   ".join(part for part in parts if part)
