"""How a frame is enlarged: where it goes, and the shader that takes it there.

Plain text and numbers; `window.py` hands them to OpenGL. "Squares" takes the nearest texel; "smooth" is the
bicubic kernel of Catmull and Rom (Keys 1981, a = -1/2), whose edges stay sharper than bilinear ones.
"""

from enum import Enum, auto


class Enlargement(Enum):
    """How a picture is enlarged."""

    SQUARES = auto()
    SMOOTH = auto()

    @property
    def other(self) -> "Enlargement":
        """The one that this is not."""
        return Enlargement.SQUARES if self is Enlargement.SMOOTH else Enlargement.SMOOTH


# A triangle strip over the whole viewport, from the number of the vertex alone. Row 0 of the picture is its
# top.
VERTEX_SHADER = """#version 330 core
out vec2 place;
void main() {
    vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
    place = vec2(corner.x, 1.0 - corner.y);
    gl_Position = vec4(2.0 * corner - 1.0, 0.0, 1.0);
}
"""

_SQUARES = """#version 330 core
uniform sampler2D picture;
in vec2 place;
out vec4 color;
void main() {
    ivec2 size = textureSize(picture, 0);
    color = vec4(texelFetch(picture, min(ivec2(place * size), size - 1), 0).rgb, 1.0);
}
"""

_SMOOTH = """#version 330 core
uniform sampler2D picture;
in vec2 place;
out vec4 color;

vec4 weights(float t) {  // Keys 1981, eq. 4 with a = -1/2, for the texels at -1, 0, 1, 2
    return 0.5 * vec4(((2.0 - t) * t - 1.0) * t, (3.0 * t - 5.0) * t * t + 2.0,
                      ((4.0 - 3.0 * t) * t + 1.0) * t, (t - 1.0) * t * t);
}

void main() {
    ivec2 size = textureSize(picture, 0);
    vec2 texel = place * size - 0.5;
    ivec2 base = ivec2(floor(texel));
    vec4 wx = weights(texel.x - base.x), wy = weights(texel.y - base.y);
    vec3 sum = vec3(0.0);
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 4; i++)
            sum += wy[j] * wx[i] * texelFetch(picture, clamp(base + ivec2(i, j) - 1, ivec2(0), size - 1),
            0).rgb;
    color = vec4(sum, 1.0);
}
"""


FRAGMENT_SHADERS = {Enlargement.SQUARES: _SQUARES, Enlargement.SMOOTH: _SMOOTH}


def fit(picture: tuple[int, int], room: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where a picture goes in a framebuffer: as large as fits, its shape kept, in the middle.

    Args:
        picture, room: (height, width).

    Returns:
        x, y, width, height.
    """
    scale = min(room[0] / picture[0], room[1] / picture[1])
    height, width = max(1, round(picture[0] * scale)), max(1, round(picture[1] * scale))
    return (room[1] - width) // 2, (room[0] - height) // 2, width, height
