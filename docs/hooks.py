"""The site's hooks for MkDocs: patterns in ``nav``, and pages for linked files that are not below ``docs/``.

Links are written for the forge: relative paths to files of the repository. Those that leave ``docs/`` lead to
pages below ``source/``, which show the file, or list the folder. So all links work without a network.
"""

import posixpath
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
LANGUAGES = {".py": "python", ".yml": "yaml", ".service": "ini", "": "text"}  # where they are no suffix
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")


def on_config(config: MkDocsConfig) -> None:
    """Replace the patterns in ``nav`` by the pages that they match."""
    pages = sorted(str(page.relative_to(ROOT / "docs").as_posix()) for page in (ROOT / "docs").rglob("*.md"))
    named = {entry for entry in _entries(config.nav) if "*" not in entry}
    config.nav = _expand(config.nav, pages, named)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add a page for each file or folder outside ``docs/`` that a page links to, also by way of another."""
    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    seen = set(waiting)
    for path in waiting:  # grows
        if not path.startswith("docs/"):
            page = File.generated(
                config, _page_of(path), content=_content(path), inclusion=InclusionLevel.NOT_IN_NAV
            )
            files.append(page)
        if path.endswith(".md"):
            text = (ROOT / path).read_text("utf-8")
            linked = {
                posixpath.normpath(posixpath.join(posixpath.dirname(path), to))
                for to, _ in _LINK.findall(text)
            }
            new = sorted(to for to in linked - seen if not to.startswith("docs/") and (ROOT / to).exists())
            seen.update(new)
            waiting += new


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Let the links of a page lead to pages of the site."""
    uri = page.file.src_uri
    path = uri.removeprefix("source/") if uri.startswith("source/") else f"docs/{uri}"

    def rewrite(link: re.Match[str]) -> str:
        to = posixpath.normpath(posixpath.join(posixpath.dirname(path), link[1]))
        if not (ROOT / to).exists():
            return link[0]  # MkDocs reports it
        return posixpath.relpath(_page_of(to), posixpath.dirname(uri)) + (link[2] or "")

    return _LINK.sub(rewrite, markdown)


def _page_of(path: str) -> str:
    """Return where the site has a file of the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if (ROOT / path).is_dir():
        return f"source/{path}/index.md"
    return f"source/{path}" if path.endswith(".md") else f"source/{path}.md"


def _content(path: str) -> str:
    """Return the page of a file or folder outside ``docs/``."""
    place = ROOT / path
    if place.is_dir():
        names = sorted(f"{each.name}/" if each.is_dir() else each.name for each in place.iterdir())
        return "\n".join([f"# {path}/", "", *(f"- `{name}`" for name in names if name[0] not in "._")])
    text = place.read_text("utf-8")
    if path.endswith(".md"):
        return text
    language = LANGUAGES.get(place.suffix, place.suffix[1:])
    return f"# {path}\n\n````{language}\n{text}````\n"


def _entries(nav: Any) -> list[str]:
    """Return the pages and patterns of a part of ``nav``."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [entry for part in parts for entry in _entries(part)]


def _expand(nav: Any, pages: list[str], named: set[str]) -> Any:
    """Return a part of ``nav`` with its patterns replaced; add what they match to ``named``."""
    if isinstance(nav, dict):
        return {title: _expand(part, pages, named) for title, part in nav.items()}
    if not isinstance(nav, list):
        return nav
    found = []
    for entry in nav:
        if isinstance(entry, str) and "*" in entry:
            matching = [page for page in pages if fnmatchcase(page, entry) and page not in named]
            named.update(matching)
            found += matching
        else:
            found.append(_expand(entry, pages, named))
    return found
