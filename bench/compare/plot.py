"""The report as one HTML page that needs nothing else: a bar per peer, the spread on it, the cores' other use beside it."""

import html

from report import DIRECT, FIGURES, tables

WIDTH, BAR, NAME, VALUE, USE = 860, 22, 120, 190, 110
CUT = 5
COLOURS = {"ringway": "#0b7a75", "bare-relay": "#9aa5b1", DIRECT: "#d0d5db"}


def page(document: dict) -> str:
    charts = [_chart(figure, document) for figure in FIGURES if _peers(figure, document)]
    notes = html.escape(tables(document))
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Ringway side by side</title>
<style>body{{font:14px system-ui,sans-serif;max-width:{WIDTH + 40}px;margin:2em auto;padding:0 1em}}
svg{{display:block;margin:0 0 1.5em}}text{{font:12px system-ui,sans-serif;fill:#222}}h2{{font-size:15px;margin:0 0 .3em}}
pre{{overflow:auto;font-size:12px;background:#f6f7f8;padding:1em}}</style>
<h1>Side by side</h1>
<p>Bars are medians, the line on them is the spread over rounds. The last column is what others used of the gateway's and the load's
core, at most; a faded bar is a noisy one and decides nothing; » marks a bar cut short.</p>
{"".join(charts)}<h2>The figures</h2><pre>{notes}</pre></html>
"""


def _peers(figure, document) -> dict:
    summary = document["summary"].get(figure.key) or {}
    skip_direct = figure.path == ("cpu_us",)
    return {peer: cell for peer, cell in summary.items() if cell["n"] and not (skip_direct and peer == DIRECT)}


def _chart(figure, document) -> str:
    cells = _peers(figure, document)
    # A peer a thousand times dearer must not press all others flat: its bar is cut, its figure says how far.
    medians = sorted(cell["median"] for cell in cells.values())
    top = min(max(cell["max"] for cell in cells.values()), CUT * max(medians[len(medians) // 2], 0) or 1e9)
    top = max(top, 1e-9)
    room = WIDTH - NAME - VALUE - USE
    rows = []
    for index, (peer, cell) in enumerate(cells.items()):
        y = index * (BAR + 6)
        x = lambda value: NAME + room * min(max(value, 0) / top, 1)
        middle = y + BAR / 2
        colour = COLOURS.get(peer.split("-")[0] if peer.startswith("ringway") else peer, "#5b7db1")
        label = f"{'» ' if cell['median'] > top else ''}{'~' if cell['noisy'] else ''}{cell['median']:,.{figure.digits}f}"
        if cell.get("vs_best") and cell["vs_best"]["n"]:
            label += f"  ({cell['vs_best']['median']:.2f}x best proxy)"
        rows.append(
            f'<text x="0" y="{middle + 4}">{html.escape(peer)}</text>'
            f'<rect x="{NAME}" y="{y}" width="{x(cell["median"]) - NAME:.1f}" height="{BAR}" fill="{colour}"'
            f' opacity="{0.4 if cell["noisy"] else 1}"/>'
            f'<line x1="{x(cell["min"]):.1f}" x2="{x(cell["max"]):.1f}" y1="{middle}" y2="{middle}" stroke="#222"/>'
            f'<text x="{NAME + room + 8}" y="{middle + 4}">{label}</text>'
            f'<text x="{WIDTH - USE + 10}" y="{middle + 4}">{_others(figure.shape, peer, document)}</text>'
        )
    better = "more is better" if figure.higher_is_better else "less is better"
    height = len(cells) * (BAR + 6)
    return (
        f"<h2>{html.escape(figure.title)} ({better})</h2>"
        f'<svg width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">{"".join(rows)}</svg>\n'
    )


def _others(shape: str, peer: str, document: dict) -> str:
    group = [w for w in document["windows"] if w["shape"] == shape and w["peer"] == peer and "others_load" in w]
    if not group:
        return ""
    gateway, load = (max(window[key] for window in group) for key in ("others_gateway", "others_load"))
    return f"others {gateway:.0%} / {load:.0%}"
