"""What MkDocs does to each page besides its plugins (``hooks`` in mkdocs.yml)."""

import re
from typing import Any

CODE = re.compile(r"<code[ >].*?</code>", re.DOTALL)
FLAG = re.compile(r"(?<![\w-])--[a-z][\w.-]{0,36}")


def on_page_content(html: str, **_: Any) -> str:
    """Marks flags in code, so that the style sheet keeps a browser from breaking them after a hyphen."""
    return CODE.sub(lambda code: FLAG.sub(r'<span class="flag">\g<0></span>', code[0]), html)
