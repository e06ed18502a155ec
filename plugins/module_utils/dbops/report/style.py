# SPDX-License-Identifier: GPL-3.0-or-later
"""The page's style: one ink, one accent, and red for what is broken; light, dark and paper."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark; --paper: #fbfaf8; --card: #ffffff; --ink: #1b2126; --soft: #55616b; --faint: #5f6a73;
  --line: #e3e1dc; --wash: #f2f0ec; --accent: #0f6b66; --accent-soft: #b9dcd8; --bad: #b3261e;
  --bad-soft: #f8dcd9; --warn: #8a5300; --warn-soft: #f7e6c8; --good: #1c6b3c; --good-soft: #d9eddf;
  --doubt: #56428f; --doubt-soft: #e6e0f5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12171b; --card: #191f24; --ink: #e8eaeb; --soft: #aab4bb; --faint: #8f9aa3; --line: #2c353c;
    --wash: #20272d; --accent: #5cc4ba; --accent-soft: #23524f; --bad: #ff8a80; --bad-soft: #4a2320;
    --warn: #f0bb62; --warn-soft: #44330f; --good: #7fd19b; --good-soft: #1c3b28; --doubt: #bba9f2;
    --doubt-soft: #332b52;
  }
}
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 400 15px/1.55 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue",
    "Noto Sans", "Liberation Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
.page { max-width: 1480px; margin: 0 auto; padding: clamp(20px, 4vw, 56px) clamp(16px, 4vw, 64px) 64px }
h1, h2, h3 { line-height: 1.2; letter-spacing: -.012em; font-weight: 620; margin: 0; overflow-wrap: anywhere }
h1 { font-size: clamp(26px, 3.2vw, 38px) }
h2 { font-size: clamp(22px, 2.4vw, 28px) }
h3 { font-size: 17px; margin: 48px 0 4px }
p { margin: 0 }
.lead { color: var(--soft); max-width: 76ch; overflow-wrap: anywhere }
.eyebrow {
  font-size: 12.5px; letter-spacing: .07em; text-transform: uppercase; color: var(--faint); margin-bottom: 6px;
}
header.top { padding-bottom: 28px; margin-bottom: 36px; border-bottom: 1px solid var(--line) }
header.top p.lead { margin-top: 8px }
.cluster { margin-top: 56px }
.cluster:first-of-type { margin-top: 0 }
.cluster-head { display: flex; flex-wrap: wrap; align-items: baseline; gap: 6px 16px; margin-bottom: 6px }
a { color: var(--accent); text-underline-offset: 3px; text-decoration-thickness: 1px }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 2px }
code {
  font: 13px/1.5 ui-monospace, "SF Mono", "Cascadia Mono", Menlo, "DejaVu Sans Mono", "Liberation Mono",
    monospace;
  overflow-wrap: anywhere;
}
.state {
  display: inline-flex; align-items: center; gap: 6px; font-size: 13px; font-weight: 600; white-space: nowrap;
  border-radius: 99px; padding: 1px 10px 1px 3px;
}
.state .mark {
  display: inline-grid; place-items: center; width: 17px; height: 17px; border-radius: 50%; font-size: 11px;
  line-height: 1; color: var(--card);
}
.state.good { background: var(--good-soft); color: var(--good) }
.state.good .mark { background: var(--good) }
.state.warn { background: var(--warn-soft); color: var(--warn) }
.state.warn .mark { background: var(--warn) }
.state.bad { background: var(--bad-soft); color: var(--bad) }
.state.bad .mark { background: var(--bad) }
.state.doubt { background: var(--doubt-soft); color: var(--doubt) }
.state.doubt .mark { background: var(--doubt) }
.cluster-head .state { font-size: 14px; padding: 3px 12px 3px 5px; transform: translateY(-2px) }
.tiles {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 208px), 1fr)); gap: 14px;
  margin-top: 26px; padding: 0; list-style: none;
}
.tile {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px 18px;
  display: flex; flex-direction: column;
}
.tile .name { font-size: 13px; color: var(--soft) }
.tile .value {
  font-size: 29px; line-height: 1.15; font-weight: 560; letter-spacing: -.022em; margin: 8px 0 10px;
}
.tile .value.none { color: var(--faint) }
.tile .against {
  display: flex; flex-wrap: wrap; align-items: center; gap: 4px 8px; font-size: 13px; color: var(--soft);
  margin-bottom: 8px;
}
.tile .words {
  font-size: 13px; line-height: 1.45; color: var(--soft); overflow-wrap: anywhere; margin-top: auto;
}
.tile.bad { border-color: var(--bad); box-shadow: inset 0 3px 0 var(--bad) }
.note { font-size: 13.5px; color: var(--soft); max-width: 84ch; margin-bottom: 14px }
.findings {
  list-style: none; padding: 0; margin: 26px 0 0; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px;
}
.findings li {
  border-top: 1px solid var(--line); padding: 12px 18px; display: grid; grid-template-columns: 128px 1fr;
  gap: 2px 12px; overflow-wrap: anywhere;
}
.findings li:first-child { border-top: 0 }
.findings .hint { color: var(--soft); font-size: 13.5px }
.findings .of { color: var(--faint); font-size: 13px }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 20px 22px;
  margin-top: 14px;
}
.scroll { overflow-x: auto; overscroll-behavior-x: contain; scrollbar-width: thin }
.scroll > svg.window { min-width: 660px }
svg { display: block; font-family: inherit; overflow: visible }
svg.patterns { position: absolute }
svg text { fill: var(--ink); font-size: 12.5px }
svg.at { overflow: visible }
.lane { font-weight: 600; font-size: 14px; white-space: pre }
.lane .quiet { font-weight: 400; fill: var(--faint); font-size: 13px }
svg .tick, svg .scale { fill: var(--faint); font-size: 12px }
svg .tick { text-anchor: middle }
.grid { stroke: var(--line); stroke-width: 1 }
.rule, .floor { stroke: var(--line) }
.wanted { fill: var(--wash) }
.allowed { fill: var(--line) }
.now { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 2 3 }
.span { fill: var(--accent-soft) }
.branch { fill: none; stroke: var(--accent); stroke-width: 1.5 }
.reach { fill: transparent; stroke: var(--card); stroke-width: 1 }
a:hover .reach { fill: var(--accent); fill-opacity: .75 }
.gap-ground { fill: var(--bad-soft) }
.gap { fill: url(#gap-hatch); stroke: var(--bad); stroke-width: 1 }
.hatch { stroke: var(--bad); stroke-width: 1; opacity: .55 }
.break { stroke: var(--bad); stroke-width: 2.5 }
svg .gap-word {
  text-anchor: middle; fill: var(--bad); font-weight: 700; font-size: 12px; paint-order: stroke;
  stroke: var(--bad-soft); stroke-width: 5px;
}
.tail { fill: none; stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 3 2.5 }
.pole { stroke: var(--ink); stroke-width: 1 }
.flag { fill: var(--ink) }
.shape .body { fill: var(--card); stroke: var(--accent); stroke-width: 1.5; stroke-linejoin: round }
.shape.restored .body { fill: var(--accent) }
.shape .half { fill: var(--accent) }
.shape.problem .body { stroke: var(--bad); fill: var(--card) }
.shape .cross { stroke: var(--bad); stroke-width: 2.25; fill: none }
.shape .hold { stroke: var(--ink); stroke-width: 2 }
.verdict circle { fill: var(--good-soft); stroke: var(--good) }
.verdict path { fill: none; stroke: var(--good); stroke-width: 1.5 }
.verdict.bad circle { fill: var(--bad-soft); stroke: var(--bad) }
.verdict.bad path { stroke: var(--bad) }
.verdict.doubt circle { fill: var(--doubt-soft); stroke: var(--doubt) }
.verdict.doubt path { stroke: var(--doubt) }
.lock { fill: var(--faint) }
.padlock { fill: var(--card); stroke: var(--faint); stroke-width: 1.5 }
svg .alarm { fill: var(--bad); font-weight: 600 }
.stem { stroke: var(--accent); stroke-width: 2.5; fill: none; opacity: .55 }
.stem.incremental { stroke-width: 1.5 }
.legend {
  display: flex; flex-wrap: wrap; gap: 6px 20px; margin: 18px 0 0; padding: 14px 0 0;
  border-top: 1px solid var(--line); list-style: none; font-size: 13px; color: var(--soft);
}
.legend li { display: flex; align-items: center; gap: 8px }
.charts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 14px 40px;
}
figure { margin: 0; min-width: 0 }
figcaption { font-size: 13.5px; font-weight: 600; margin-bottom: 4px }
.usage {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 150px), 1fr)); gap: 14px 24px;
  margin: 0;
}
.usage dt { font-size: 13px; color: var(--soft) }
.usage dd { margin: 0; font-size: 19px; letter-spacing: -.01em; overflow-wrap: anywhere }
.usage dd small { font-size: 13px; color: var(--soft); letter-spacing: 0; display: block }
.strip { display: flex; gap: 3px; flex-wrap: wrap; margin: 10px 0 2px }
.day {
  width: 14px; height: 14px; border-radius: 3px; border: 1.5px solid var(--accent); background: var(--card);
}
.day.proven { background: var(--accent) }
.day.backup { background: linear-gradient(0deg, var(--accent) 50%, transparent 50%) }
.day.none {
  border-color: var(--bad);
  background: linear-gradient(45deg, transparent 44%, var(--bad) 44% 56%, transparent 56%);
}
.day.before { border: 1.5px dotted var(--faint) }
h4 { font-size: 14.5px; font-weight: 620; margin: 0 0 12px; overflow-wrap: anywhere }
.card > h4:not(:first-child) { margin-top: 28px }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; line-height: 1.45 }
caption { text-align: left; color: var(--soft); font-size: 13px; padding-bottom: 8px }
th, td { text-align: left; vertical-align: top; padding: 8px 18px 8px 0; border-top: 1px solid var(--line) }
th:last-child, td:last-child { padding-right: 0 }
thead th { font-weight: 500; color: var(--faint); font-size: 12.5px; border-top: 0; white-space: nowrap }
tbody th { font-weight: 500 }
td.n, th.n { text-align: right; white-space: nowrap }
td.w, th.w { white-space: nowrap }
td.long { min-width: 220px; overflow-wrap: anywhere }
tr:target { background: var(--wash); box-shadow: 0 0 0 4px var(--wash) }
tr.gone td, tr.gone th { color: var(--faint) }
tr.gone th { text-decoration: line-through; text-decoration-thickness: 1px }
details { margin-top: 14px }
summary { cursor: pointer; font-size: 14px; font-weight: 550; color: var(--accent); padding: 4px 0 }
details > .scroll, details > p { margin-top: 10px }
footer {
  margin-top: 64px; padding-top: 18px; border-top: 1px solid var(--line); color: var(--faint); font-size: 13px;
}
.hidden {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
}
@media (max-width: 640px) {
  .findings li { grid-template-columns: 1fr }
  .card { padding: 16px 14px }
  .tile .value { font-size: 26px }
  svg .tick:not(.even) { display: none }
}
@media print {
  :root { color-scheme: light }
  @page {
  }
  body { background: #fff; font-size: 10.5pt; print-color-adjust: exact; -webkit-print-color-adjust: exact }
  .page { max-width: none; padding: 0 }
  .cluster + .cluster { break-before: page }
  .card, .tile, .findings li, tr, figure { break-inside: avoid }
  .scroll { overflow: visible }
  .scroll > svg.window { min-width: 0 }
  details::details-content { content-visibility: visible; block-size: auto }
  summary { list-style: none }
  .tiles { grid-template-columns: repeat(3, 1fr) }
  a { color: inherit; text-decoration: none }
}
"""
