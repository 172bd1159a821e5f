"""Whether a window can be opened is known before one is tried."""

import sys

import pytest

pyglet = pytest.importorskip("pyglet")


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux draws its text through fontconfig"
)
def test_a_missing_fontconfig_is_a_reason_for_the_video_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.player import window

    def missing(*names: str, **more: object) -> None:
        raise ImportError(f'Library "{names[0]}" not found.')

    monkeypatch.setattr(window.pyglet.display, "get_display", lambda: None)
    monkeypatch.setattr(window.pyglet.lib, "load_library", missing)
    assert window.display_problem() == 'Library "fontconfig" not found.'
