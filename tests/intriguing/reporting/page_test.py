"""The page is self-contained and accessible, and escapes hostile names."""

from html.parser import HTMLParser

import pytest

from intriguing.reporting.page import Section, render_page, render_section
from intriguing.reporting.plots.figures import to_png, training_curves
from intriguing.reporting.tables import Mean, Table
from intriguing.statistics.proportions import Proportion

HOSTILE = "<script>alert(1)</script>"
VOID = {"meta", "img", "br", "link"}


class _Parser(HTMLParser):
    def __init__(self):
        super().__init__()
        self.elements, self.open, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def _parsed(html):
    parser = _Parser()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def _table(name="FC100-100-10"):
    rows = (
        {"Model": name, "Error": Proportion(74, 256), "Distortion": Mean(0.062, 0.014, 250)},
        {"Model": "AE400-10", "Error": Proportion(0, 0), "Distortion": None},
    )
    columns = ("Model", "Error", "Distortion")
    published = ({"Error": 0.289, "Distortion": 0.058}, {})
    return Table(name="table_2", title=f"Errors of {name}.", columns=columns, rows=rows, notes=(name,), published=published)


@pytest.fixture(scope="module")
def png():
    return to_png(training_curves({"FC10": [1.0, 0.5]}, title="Loss"), dpi=60)


def _page(png, name="FC100-100-10"):
    section = Section(title=name, paragraphs=(name,), tables=(_table(name),), figures=((png, f'A "{name}" figure'),))
    return render_page(
        title=name,
        lead=name,
        sections=[render_section(part) for part in (section, Section(title="Second"))],
        facts={name: name, "Seed": "0"},
    )


def test_page_loads_no_external_resources(png):
    page = _parsed(_page(png))
    for _, attributes in page.elements:
        assert attributes.get("href", "#").startswith("#")
        assert attributes.get("src", "data:").startswith("data:image/png;base64,") or "src" not in attributes
        assert not {"srcset", "action", "background", "poster", "data"} & set(attributes)
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    assert "url(" not in _page(png) and "@import" not in _page(png)
    policies = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_hostile_names_are_escaped(png):
    html = _page(png, HOSTILE)
    page = _parsed(html)
    assert not page.all("script") and HOSTILE not in html
    assert HOSTILE in "".join(page.text)


def test_hostile_attributes_are_escaped(png):
    page = _parsed(_page(png, '" onload="alert(1)'))
    assert not any("onload" in attributes for _, attributes in page.elements)


def test_figures_have_alternative_text_and_a_size(png):
    (image,) = _parsed(_page(png)).all("img")
    assert image["alt"] == 'A "FC100-100-10" figure'
    assert int(image["width"]) > 0 and int(image["height"]) > 0


def test_tables_have_captions_and_scoped_headings(png):
    page = _parsed(_page(png))
    assert len(page.all("caption")) == len(page.all("table")) == 1
    scopes = [heading.get("scope") for heading in page.all("th")]
    assert scopes == ["col"] * 3 + ["row"] * 2


def test_cells_show_rate_interval_paper_and_count(png):
    html = _page(png)
    assert "28.9 %<small>23.7 \N{EN DASH} 34.7</small>" in html
    assert '<small class="paper">paper 28.9 %</small>' in html
    assert '<small class="paper">paper 0.058</small>' in html
    assert 'title="74 of 256"' in html and "sd 0.0140" in html


def test_unknown_rates_show_a_dash_and_no_interval(png):
    assert 'title="0 of 0">\N{EN DASH}</td>' in _page(png).replace("\n", "")


def test_contents_link_to_every_section(png):
    page = _parsed(_page(png))
    targets = [link["href"].removeprefix("#") for link in page.all("a")]
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert targets == ["section-1", "section-2", "provenance"]
    assert set(targets) <= set(identifiers) and len(set(identifiers)) == len(identifiers)


def test_page_declares_language_viewport_and_color_schemes(png):
    page, html = _parsed(_page(png)), _page(png)
    assert page.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert "prefers-color-scheme: dark" in html and "@media print" in html


def test_empty_report_is_a_page():
    page = _parsed(render_page(title="T", lead="L", sections=[], facts={}))
    assert not page.all("section") and "L" in page.text


def test_figures_must_be_png_files_with_captions(png):
    with pytest.raises(ValueError, match="must be PNG files"):
        Section(title="S", figures=((b"GIF89a..", "caption"),))
    with pytest.raises(ValueError, match="must have captions"):
        Section(title="S", figures=((png, " "),))
