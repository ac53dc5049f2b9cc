"""From windows to figures: medians with their spread, ratios within a round, and the table."""

import statistics
from dataclasses import dataclass

DIRECT, RELAY, PROXIES = "direct", "bare-relay", ("nginx", "haproxy")


@dataclass(frozen=True)
class Figure:
    """One column: which window it is read from, and how."""

    key: str
    title: str
    shape: str
    path: tuple[str, ...]
    #: Shown as the difference to the same figure of the backend asked directly, in the same round.
    added: bool = False
    higher_is_better: bool = False
    digits: int = 1


FIGURES = [
    Figure("cpu_request_8", "CPU us/request, 8 connections", "json@8", ("cpu_us",)),
    Figure("cpu_request_64", "CPU us/request, 64 connections", "json@64", ("cpu_us",)),
    Figure("cpu_event_paced", "CPU us/event, paced 5 ms, 64 streams", "paced@64", ("cpu_us",)),
    Figure("cpu_event_burst", "CPU us/event, bursts of 64, 64 streams", "burst@64", ("cpu_us",), digits=2),
    Figure("requests_8", "requests/s, 8 connections", "json@8", ("per_s",), higher_is_better=True, digits=0),
    Figure("requests_64", "requests/s, 64 connections", "json@64", ("per_s",), higher_is_better=True, digits=0),
    Figure("events_burst", "events/s in bursts, 64 streams", "burst@64", ("per_s",), higher_is_better=True, digits=0),
    Figure("added_p50", "added request p50 us, 1 connection", "json@1", ("latency_us", "p50"), added=True),
    Figure("added_p99", "added request p99 us, 1 connection", "json@1", ("latency_us", "p99"), added=True),
    Figure("added_ttft_p50", "added first event p50 us, 1 stream", "first@1", ("ttft_us", "p50"), added=True),
    Figure("added_ttft_p99", "added first event p99 us, 1 stream", "first@1", ("ttft_us", "p99"), added=True),
    Figure("added_gap_p50", "added gap p50 us, paced 5 ms, 64 streams", "paced@64", ("gap_us", "p50"), added=True),
    Figure("added_gap_p99", "added gap p99 us, paced 5 ms, 64 streams", "paced@64", ("gap_us", "p99"), added=True),
]


def summarise(windows: list[dict]) -> dict:
    """`{figure: {peer: {median, min, max, n, voids, noisy, vs_best, vs_relay, vs_first}}}`."""
    return {figure.key: _figure(figure, windows) for figure in FIGURES}


def _figure(figure: Figure, windows: list[dict]) -> dict:
    mine = [window for window in windows if window["shape"] == figure.shape]
    cells = {(window["round"], window["peer"]): window for window in mine}
    rounds = sorted({number for number, _ in cells})
    summary = {}
    for peer in dict.fromkeys(window["peer"] for window in mine):
        points = {}
        for number in rounds:
            sources = [cells.get((number, name)) for name in ((peer, DIRECT) if figure.added else (peer,))]
            if all(source and source["ok"] for source in sources):
                values = [_at(source, figure.path) for source in sources]
                if None not in values:
                    value = values[0] - values[1] if figure.added else values[0]
                    points[number] = (value, any(source["noisy"] for source in sources))
        voids = sum(1 for number in rounds if (number, peer) in cells and not cells[number, peer]["ok"])
        summary[peer] = _spread(points, len(rounds)) | {"voids": voids, "points": points}
    builds = [peer for peer in summary if peer.startswith("ringway")]
    for peer, cell in summary.items():
        if peer != DIRECT and not figure.added:
            if peer in builds[1:]:
                cell["vs_first"] = _ratio(figure, peer, builds[:1], summary, len(rounds))
            best = [name for name in PROXIES if name in summary and name != peer]
            # The better of the two proxies as the round's own measure, not of their medians.
            if peer not in PROXIES and best:
                cell["vs_best"] = _ratio(figure, peer, best, summary, len(rounds))
            if peer != RELAY and RELAY in summary:
                cell["vs_relay"] = _ratio(figure, peer, [RELAY], summary, len(rounds))
    if figure.added:
        summary.pop(DIRECT, None)
    return summary


def _ratio(figure: Figure, peer: str, against: list[str], summary: dict, rounds: int) -> dict:
    choose = max if figure.higher_is_better else min
    points = {}
    for number, (value, noisy) in summary[peer]["points"].items():
        others = [summary[name]["points"].get(number) for name in against]
        if all(others) and choose(other[0] for other in others) > 0:
            points[number] = (value / choose(o[0] for o in others), noisy or any(o[1] for o in others))
    return _spread(points, rounds)


def _spread(points: dict[int, tuple[float, bool]], rounds: int) -> dict:
    """Quiet rounds alone if they are at least two and half of all; otherwise every round, marked noisy."""
    quiet = [value for value, noisy in points.values() if not noisy]
    enough = len(quiet) >= max(2, (rounds + 1) // 2)
    values = quiet if enough else [value for value, _ in points.values()]
    if not values:
        return {"median": None, "min": None, "max": None, "n": 0, "noisy": False, "excluded": 0}
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
        "noisy": len(quiet) < len(points) and not enough,
        "excluded": len(points) - len(values),
    }


def _at(window: dict, path: tuple[str, ...]):
    value = window
    for key in path:
        value = value.get(key) if value else None
    return value


def tables(document: dict) -> str:
    """Everything measured, as Markdown."""
    machine, at = document["machine"], document["arrangement"]
    text = [
        "# Side by side",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; gateway on core "
        f"{_list(at['gateway_cores'])}, backend and load on {_list(at['load_cores'])}; "
        f"{document['options']['rounds']} rounds of {document['options']['seconds']:g} s; {document['date']}.",
        "",
        "; ".join(f"{name} {about['version']} ({about['driver'][0]})" for name, about in document["peers"].items()) + ".",
        "",
        "Median (min-max). `~`: noisy, others used more than "
        f"{at['quiet']:.0%} of a core in too many rounds to leave those out. `-k`: k noisy rounds left out. `!k`: k windows void "
        "for a failure. Added: gateway less direct in the same round.",
        "",
    ]
    for figure in FIGURES:
        summary = document["summary"].get(figure.key) or {}
        if not any(cell["n"] or cell["voids"] for cell in summary.values()):
            continue
        ratios = {"vs_best": "x better of nginx, HAProxy", "vs_relay": "x bare relay", "vs_first": "x first build"}
        ratios = {key: title for key, title in ratios.items() if any(key in cell for cell in summary.values())}
        head = ["peer", figure.title, *ratios.values()]
        text += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for peer, cell in summary.items():
            if peer == DIRECT and figure.path == ("cpu_us",):
                continue
            row = [peer, _cell(cell, figure.digits)] + [_cell(cell.get(key), 2) for key in ratios]
            text.append("| " + " | ".join(row) + " |")
        text.append("")
    text += _use(document["windows"])
    for title, render in (("memory", _memory), ("streams", _streams), ("ladder", _ladder), ("scale", _scale)):
        if document.get(title):
            text += render(document[title])
    return "\n".join(text)


def _use(windows: list[dict]) -> list[str]:
    """How full the cores were, and with whom."""
    rows = {}
    for window in windows:
        if "others_gateway" in window:
            rows.setdefault((window["shape"], window["peer"]), []).append(window)
    if not rows:
        return []
    head = "| window | peer | gateway core % | load core % | others there % | others on load core % | noisy rounds |"
    text = ["Use of the cores, median; others as median (max). A little below zero is the tick's rounding.", "",
            head, "|---|---|---|---|---|---|---|"]
    for (shape, peer), group in rows.items():
        def share(key, worst=False):
            values = [100 * window[key] for window in group]
            return f"{statistics.median(values):.0f}" + (f" ({max(values):.0f})" if worst else "")
        noisy = sum(window["noisy"] for window in group)
        text.append(f"| {shape} | {peer} | {share('gateway_core')} | {share('load_core')} | "
                    f"{share('others_gateway', True)} | {share('others_load', True)} | {noisy}/{len(group)} |")
    return [*text, ""]


def _memory(memory: dict) -> list[str]:
    text = ["| peer | RSS idle MiB | loaded MiB | after MiB | KiB per stream |", "|---|---|---|---|---|"]
    for peer, row in memory.items():
        each = f"{row['per_stream_kib']:.1f} ({row['streams']} streams)" if "per_stream_kib" in row else "-"
        sizes = [f"{row[key] / 1024:.1f}" if row[key] else "-" for key in ("idle_kib", "loaded_kib", "after_kib")]
        text.append(f"| {peer} | {' | '.join(sizes)} | {each} |")
    return [*text, ""]


def _streams(streams: dict) -> list[str]:
    text = ["| peer | streams sustained (20 ms pace) | events/s |", "|---|---|---|"]
    for peer, row in streams.items():
        count = "-" if row["streams"] is None else f"{'~' if row['noisy'] else ''}{row['streams']}"
        count += " (the limit here)" if row["at_limit"] and row["streams"] else ""
        text.append(f"| {peer} | {count} | {row['events_per_s'] or 0:,.0f} |")
    return [*text, ""]


def _ladder(ladder: dict) -> list[str]:
    bounds = list(next(iter(ladder.values()))["best"])
    text = ["Best requests/s of a window without any failure, by p99 (connections).", "",
            "| peer | " + " | ".join(f"p99 < {bound}" if bound != "unbounded" else bound for bound in bounds) + " | stopped by |",
            "|---" * (len(bounds) + 2) + "|"]
    for peer, row in ladder.items():
        best = [row["best"][bound] for bound in bounds]
        cells = [f"{'~' if cell['noisy'] else ''}{cell['per_s']:,.0f} ({cell['connections']})" if cell else "-" for cell in best]
        text.append(f"| {peer} | {' | '.join(cells)} | {row['stopped']} |")
    return [*text, ""]


def _scale(scale: dict) -> list[str]:
    text = ["| peer | cores | requests/s | efficiency | events/s in bursts | efficiency |", "|---|---|---|---|---|---|"]
    for peer, rows in scale.items():
        for row in rows:
            cells = [f"{row[key]:,.0f} | {row[f'{key}_efficiency']:.2f}" if row[f"{key}_efficiency"] else "- | -"
                     for key in ("json", "burst")]
            text.append(f"| {peer} | {row['cores']} | {' | '.join(cells)} |")
    return [*text, ""]


def _cell(cell: dict | None, digits: int) -> str:
    if not cell or not cell["n"]:
        return "-" + (f" !{cell['voids']}" if cell and cell.get("voids") else "")
    median, least, most = (f"{cell[key]:,.{digits}f}" for key in ("median", "min", "max"))
    marks = (f" -{cell['excluded']}" if cell["excluded"] else "") + (f" !{cell['voids']}" if cell.get("voids") else "")
    return f"{'~' if cell['noisy'] else ''}{median} ({least}-{most}){marks}"


def _list(cores: list[int]) -> str:
    return ",".join(map(str, cores))
