"""The window: pyglet and OpenGL, and nothing else. Shows the newest frame the moment it is ready.

Nothing is drawn on a timer: the stepper's thread wakes the event loop with each frame. What events mean is
decided in `view.py`. The only file that imports pyglet; importing it touches no display.
"""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pyglet
import pyglet.lib

from engine.errors import DiamondError
from engine.player.controller import Controller
from engine.player.keymap import KeyMap, key_name
from engine.player.picture import FRAGMENT_SHADERS, VERTEX_SHADER, Enlargement, fit
from engine.player.playable import Pixels
from engine.player.session import Session
from engine.player.stepper import Stepper
from engine.player.view import View
from engine.whole_file import WholeFile

pyglet.options["shadow_window"] = False  # a hidden one, opened on import, which needs a display
gl, key, mouse = pyglet.gl, pyglet.window.key, pyglet.window.mouse  # imported here, after the option

DEFAULT_WIDTH_PX = 960  # a window starts with the largest whole enlargement that is no wider
INSET = 1 / 5  # height of the low-resolution frame, of the picture's
BUTTONS = {mouse.LEFT: "left click", mouse.RIGHT: "right click"}
FONT_SIZE, LINE_PX, MARGIN_PX = 11, 18, 8
SOFTWARE_RENDERERS = "llvmpipe", "softpipe", "swiftshader", "swrast"
SHADE = (0, 0, 0, 150)  # behind the text


def display_problem() -> str | None:
    """Why no display opens; None where one does."""
    try:
        pyglet.display.get_display()
        if sys.platform.startswith("linux"):
            pyglet.lib.load_library("fontconfig")  # the header's text needs it, and would ask only then
    except Exception as error:  # each platform has its own
        return str(error)
    return None


def play_in_window(
    session: Session,
    controller: Controller,
    keymap: KeyMap,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    fps: float,
    title: str,
    scale: int | None = None,
) -> Path | None:
    """Opens the window and plays until it is closed.

    Args:
        session, controller, keymap: the game, where its input goes, and what each key does.
        sizes: (height, width) of the world's frames and of its low-resolution frames.
        fps: frames a second to aim at.
        title: of the window; also begins the names of screenshots.
        scale: whole-number enlargement to start with; None: as large as `DEFAULT_WIDTH_PX` allows.

    Returns:
        The recording saved at the end, if there was one.

    Raises:
        DiamondError: the window cannot be opened, or the game ended with one.
    """
    try:
        window = PlayWindow(*sizes, title, scale or max(1, DEFAULT_WIDTH_PX // sizes[0][1]))
    except Exception as error:  # no OpenGL 3.3, no display, no library: pyglet has an exception for each
        raise DiamondError(
            f"the window does not open: {type(error).__name__}: {error}",
            "a display with OpenGL 3.3",
            "render to a file instead: diamond-play --headless FILE.mp4",
        ) from error
    stepper = Stepper(session, fps, window.wake)
    enlargement = Enlargement.SQUARES if window.drawn_in_software else Enlargement.SMOOTH
    window.attach(stepper, View(window, stepper, controller, keymap, enlargement))
    try:
        stepper.start()
        window.wake()  # to say that the world warms up
        pyglet.app.run(None)
    finally:
        try:
            saved = stepper.stop()  # after the frame in progress
        finally:
            window.window.close()
    return saved


class Picture:
    """A texture of one size, uploaded in place, and the programs that draw it. Needs a current context."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        shader = pyglet.graphics.shader
        self._programs = {
            enlargement: shader.ShaderProgram(
                shader.Shader(VERTEX_SHADER, "vertex"), shader.Shader(source, "fragment")
            )
            for enlargement, source in FRAGMENT_SHADERS.items()
        }
        self._corners = pyglet.graphics.vertexarray.VertexArray()  # empty, but OpenGL wants one bound
        self._texture = gl.GLuint()
        gl.glGenTextures(1, self._texture)
        gl.glBindTexture(gl.GL_TEXTURE_2D, self._texture)
        for parameter in (gl.GL_TEXTURE_MIN_FILTER, gl.GL_TEXTURE_MAG_FILTER):
            gl.glTexParameteri(gl.GL_TEXTURE_2D, parameter, gl.GL_NEAREST)
        pixels = gl.GL_RGB, gl.GL_UNSIGNED_BYTE, None
        gl.glTexImage2D(gl.GL_TEXTURE_2D, 0, gl.GL_RGB8, width, height, 0, *pixels)

    def upload(self, rgb: Pixels) -> None:
        """Replaces the picture: uint8 RGB (height, width, 3), contiguous."""
        assert rgb.shape == (self.height, self.width, 3)
        assert rgb.flags.c_contiguous
        gl.glBindTexture(gl.GL_TEXTURE_2D, self._texture)
        gl.glPixelStorei(gl.GL_UNPACK_ALIGNMENT, 1)  # rows of 3-byte pixels end anywhere
        pixels = gl.GL_RGB, gl.GL_UNSIGNED_BYTE, rgb.ctypes.data
        gl.glTexSubImage2D(gl.GL_TEXTURE_2D, 0, 0, 0, self.width, self.height, *pixels)

    def draw(self, x: int, y: int, width: int, height: int, enlargement: Enlargement) -> None:
        """Draws into a rectangle of the framebuffer, in pixels from its bottom left; sets the viewport."""
        gl.glViewport(x, y, width, height)
        gl.glDisable(gl.GL_BLEND)
        gl.glActiveTexture(gl.GL_TEXTURE0)
        gl.glBindTexture(gl.GL_TEXTURE_2D, self._texture)
        program = self._programs[enlargement]
        program.use()
        self._corners.bind()
        gl.glDrawArrays(gl.GL_TRIANGLE_STRIP, 0, 4)
        self._corners.unbind()
        program.stop()


class Text:
    """Lines in a shaded box in the top left corner. A line that did not change costs nothing."""

    def __init__(self) -> None:
        self._box = pyglet.shapes.Rectangle(0, 0, 1, 1, color=SHADE)
        self._labels: list[pyglet.text.Label] = []

    def draw(self, lines: Sequence[str], top: int) -> None:
        """Draws `lines`, the first one just below `top` (window coordinates, y upwards)."""
        while len(self._labels) < len(lines):
            self._labels.append(pyglet.text.Label("", font_size=FONT_SIZE, anchor_y="top"))
        labels = self._labels[: len(lines)]
        for row, (label, line) in enumerate(zip(labels, lines, strict=True)):
            place = 2 * MARGIN_PX, top - 2 * MARGIN_PX - row * LINE_PX, 0
            if label.text != line:
                label.text = line
            if label.position != place:
                label.position = place
        self._box.width = max(label.content_width for label in labels) + 2 * MARGIN_PX
        self._box.height = len(lines) * LINE_PX + 2 * MARGIN_PX
        self._box.position = MARGIN_PX, top - MARGIN_PX - self._box.height
        self._box.draw()
        for label in labels:
            label.draw()


class PlayWindow(pyglet.event.EventDispatcher):
    """A `Screen` for a `View`; both, and the stepper, come with `attach`. Owns a window of pyglet's."""

    def __init__(self, size: tuple[int, int], low_res_size: tuple[int, int], title: str, scale: int) -> None:
        self._frame_size, self._times, self._title = size, scale, title
        self._stepper: Stepper | None = None
        self._view: View | None = None
        self._shown_serial = 0
        self._woken = False
        # Without vsync: a frame shows when it is ready, not when the screen next starts over.
        self.window = pyglet.window.Window(
            size[1] * scale, size[0] * scale, caption=title, resizable=True, vsync=False
        )
        self._picture, self._low_res, self._text = Picture(*size), Picture(*low_res_size), Text()
        gl.glClearColor(0, 0, 0, 1)

    @property
    def drawn_in_software(self) -> bool:
        """Whether OpenGL runs on the CPU: a smooth enlargement would take milliseconds from the world."""
        renderer = self.window.context.get_info().get_renderer()
        return any(name in renderer.lower() for name in SOFTWARE_RENDERERS)

    def attach(self, stepper: Stepper, view: View) -> None:
        """Where frames come from and events go to; events are heard from now on."""
        self._stepper, self._view = stepper, view
        self.window.push_handlers(self)

    def wake(self) -> None:
        """Has the event loop look for news, at once. The one method for other threads."""
        if not self._woken:  # once is enough, however many frames come while one is drawn
            self._woken = True
            pyglet.app.platform_event_loop.post_event(self, "on_news")

    def on_news(self) -> None:
        """There is news. Not drawn here: were frames faster than drawing, input would never have its turn."""
        pyglet.clock.schedule_once(self._refresh, 0)

    def _refresh(self, elapsed_s: float) -> None:
        self._woken = False  # before reading the news: what comes from now on wakes again
        if self._stepper is not None and not self._stepper.running:
            self.quit()
        else:
            self.redraw()

    # What a view asks for.

    def redraw(self) -> None:
        """Shows the newest frame and text."""
        if self._stepper is None or self._view is None:
            return
        self.window.switch_to()
        news = self._stepper.news
        fresh = news is not None and news.serial != self._shown_serial
        if news is not None and fresh:
            self._picture.upload(news.played.frame.rgb)
            self._low_res.upload(news.played.frame.low_res)
            self._shown_serial = news.serial
        self._draw(self._view)
        self.window.flip()
        if news is not None and fresh:
            self._view.shown(news)

    def capture_mouse(self, captured: bool) -> None:
        """Hides the pointer and reports every motion, or stops doing so."""
        self.window.set_exclusive_mouse(captured)

    def resize(self, by: int) -> None:
        """Makes the window larger by so many times the frame's size."""
        if not self.window.fullscreen:
            self._times = max(1, self._times + by)
            self.window.set_size(self._frame_size[1] * self._times, self._frame_size[0] * self._times)

    def toggle_fullscreen(self) -> None:
        """Covers the whole screen, or no longer."""
        self.window.set_fullscreen(not self.window.fullscreen)

    def screenshot(self) -> str:
        """Saves what is shown; returns what to tell about it."""
        path = Path(f"{self._title}-{datetime.now():%Y%m%d-%H%M%S}.png")
        if self._view is not None:
            self._draw(self._view)  # what was drawn before may be in the other buffer
        width, height = self.window.get_framebuffer_size()
        pixels = np.empty((height, width, 3), np.uint8)
        gl.glPixelStorei(gl.GL_PACK_ALIGNMENT, 1)
        gl.glReadPixels(0, 0, width, height, gl.GL_RGB, gl.GL_UNSIGNED_BYTE, pixels.ctypes.data)
        top_down = pixels[::-1].tobytes()  # OpenGL counts rows from the bottom
        image = pyglet.image.ImageData(width, height, "RGB", top_down, -3 * width)
        try:
            with WholeFile(path) as output:
                image.save(path.name, file=output.file)
        except DiamondError as error:
            return error.what
        return f"saved {path}"

    def quit(self) -> None:
        """Ends the event loop; `play_in_window` then waits for the frame in progress."""
        pyglet.app.exit()

    def _draw(self, view: View) -> None:
        width, height = self.window.get_framebuffer_size()
        gl.glViewport(0, 0, width, height)
        self.window.clear()
        if self._shown_serial:
            x, y, w, h = fit(self._frame_size, (height, width))
            self._picture.draw(x, y, w, h, view.enlargement)
            if view.inset:
                inset_h = round(h * INSET)
                inset_w = round(inset_h * self._low_res.width / self._low_res.height)
                self._low_res.draw(x + w - inset_w, y, inset_w, inset_h, Enlargement.SQUARES)
            gl.glViewport(0, 0, width, height)
        if lines := view.lines():
            self._text.draw(lines, self.window.height)

    # Events of pyglet, in plain words to the view. True: pyglet's own handler is not wanted.

    def on_key_press(self, symbol: int, modifiers: int) -> bool:
        """pyglet itself would close the window at Escape."""
        if self._view is not None:
            self._view.key_down(key_name(key.symbol_string(symbol)))
        return True

    def on_key_release(self, symbol: int, modifiers: int) -> None:
        """Passed on."""
        if self._view is not None:
            self._view.key_up(key_name(key.symbol_string(symbol)))

    def on_mouse_press(self, x: int, y: int, button: int, modifiers: int) -> None:
        """Passed on."""
        if self._view is not None and button in BUTTONS:
            self._view.button_down(BUTTONS[button])

    def on_mouse_release(self, x: int, y: int, button: int, modifiers: int) -> None:
        """Passed on."""
        if self._view is not None and button in BUTTONS:
            self._view.button_up(BUTTONS[button])

    def on_mouse_motion(self, x: int, y: int, dx: int, dy: int) -> None:
        """pyglet's y points up."""
        if self._view is not None:
            self._view.mouse_moved(dx, -dy)

    def on_mouse_drag(self, x: int, y: int, dx: int, dy: int, buttons: int, modifiers: int) -> None:
        """Motion with a button down is motion."""
        self.on_mouse_motion(x, y, dx, dy)

    def on_deactivate(self) -> None:
        """Passed on."""
        if self._view is not None:
            self._view.focus_lost()

    def on_expose(self) -> None:
        """Part of the window was covered."""
        self.redraw()

    def on_resize(self, width: int, height: int) -> None:
        """The picture keeps its shape."""
        self.redraw()

    def on_close(self) -> bool:
        """pyglet itself would close the window under a frame in progress."""
        self.quit()
        return True


PlayWindow.register_event_type("on_news")
