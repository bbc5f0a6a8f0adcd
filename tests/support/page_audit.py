"""What can be measured of a page for those who see badly, use no mouse, or have a small screen; run in Chromium."""

from __future__ import annotations

from typing import Any

# Text against what is behind it, as WCAG 2.2 defines contrast, of elements that are seen. What is behind: the colours of
# the ancestors, laid over each other; of a gradient the stop that is worst.
_CONTRAST = r"""
(roots) => {
    const parse = (text) => {
        const srgb = /color\(srgb ([^)]*)\)/.exec(text);
        const numbers = (srgb ? srgb[1] : (/rgba?\(([^)]*)\)/.exec(text) || [])[1] || "0,0,0,0").split(/[\s,/]+/).filter(Boolean).map(Number);
        const [r, g, b, a = 1] = numbers;
        return srgb ? [r * 255, g * 255, b * 255, a] : [r, g, b, a];
    };
    const over = (top, bottom) => {
        const a = top[3] + bottom[3] * (1 - top[3]);
        return a ? [...[0, 1, 2].map((i) => (top[i] * top[3] + bottom[i] * bottom[3] * (1 - top[3])) / a), a] : [0, 0, 0, 0];
    };
    const light = (c) => {
        const [r, g, b] = c.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ratio = (a, b) => {
        const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
        return (high + 0.05) / (low + 0.05);
    };
    const behind = (element) => {
        let layers = [[0, 0, 0, 0]];
        for (let one = element; one; one = one.parentElement) {
            const style = getComputedStyle(one);
            const stops = style.backgroundImage.match(/(rgba?|color)\([^)]*\)/g);
            const own = [style.backgroundColor, ...(style.backgroundImage.includes("gradient") ? stops || [] : [])].map(parse);
            const shown = own.length > 1 ? own.slice(1) : own;
            layers = layers.flatMap((layer) => shown.map((colour) => over(layer, colour)));
        }
        return layers.map((layer) => over(layer, [255, 255, 255, 1]));
    };
    const faint = [];
    const judge = (element, colour, text) => {
        const style = getComputedStyle(element);
        let opacity = 1;
        for (let one = element; one; one = one.parentElement) opacity *= Number(getComputedStyle(one).opacity);
        const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
        const wanted = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
        const front = parse(colour);
        front[3] *= opacity;
        const found = Math.min(...behind(element).map((back) => ratio(over(front, back), back)));
        if (found < wanted) faint.push(`${found.toFixed(2)} of ${wanted}: ${text.trim().slice(0, 50)} (${element.tagName} in ${element.closest("[id]")?.id})`);
    };
    for (const root of roots.flatMap((selector) => [...document.querySelectorAll(selector)])) {
        for (const element of root.querySelectorAll("*")) {
            if (!element.checkVisibility({checkVisibilityCSS: true, checkOpacity: true}) || element.closest("[disabled], svg, .progressDiv")) continue;
            const own = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.textContent).join("");
            const style = getComputedStyle(element);
            // What is one picture sign has no colour of its own.
            if (/[\p{L}\p{N}]/u.test(own)) judge(element, style.color, own);
            if (/^(INPUT|TEXTAREA)$/.test(element.tagName) && /[\p{L}\p{N}]/u.test(element.value) && !/range|checkbox|radio/.test(element.type)) judge(element, style.color, element.value);
            if (element.placeholder && !element.value) judge(element, getComputedStyle(element, "::placeholder").color, element.placeholder);
        }
    }
    return [...new Set(faint)];
}
"""

_NAMELESS = r"""
(roots) => {
    const name = (element) => [
        element.getAttribute("aria-label"),
        (element.getAttribute("aria-labelledby") || "").split(" ").map((id) => document.getElementById(id)?.textContent || "").join(" "),
        ...[...(element.labels || [])].map((label) => label.textContent),
        element.tagName === "BUTTON" || element.getAttribute("role") ? element.textContent : "",
        element.alt, element.title,
    ].map((text) => (text || "").trim()).find(Boolean);
    const found = [];
    for (const root of roots.flatMap((selector) => [...document.querySelectorAll(selector)])) {
        for (const element of root.querySelectorAll("input, textarea, select, button, [role=button], [role=checkbox], [tabindex='0']")) {
            const file = element.type === "file";
            if (element.checkVisibility({checkVisibilityCSS: true}) && !file && !name(element)) {
                found.push(`${element.outerHTML.slice(0, 120)} in ${element.closest("[id]")?.id}`);
            }
        }
    }
    return [...new Set(found)];
}
"""

_TWICE = r"""
(part) => {
    const ids = [...document.querySelectorAll("[id]")].map((element) => element.id).filter((id) => id.includes(part));
    return [...new Set(ids.filter((id, place) => ids.indexOf(id) !== place))];
}
"""

_OUTSIDE = r"""
(roots) => {
    const width = document.documentElement.clientWidth;
    const found = document.scrollingElement.scrollWidth > width ? [`the page is ${document.scrollingElement.scrollWidth} wide`] : [];
    for (const root of roots.flatMap((selector) => [...document.querySelectorAll(selector)])) {
        for (const element of root.querySelectorAll("input, textarea, select, button, img")) {
            if (!element.checkVisibility({checkVisibilityCSS: true}) || element.type === "file") continue;
            const box = element.getBoundingClientRect();
            let scrolls = element.parentElement;
            while (scrolls && !/auto|scroll/.test(getComputedStyle(scrolls).overflowX)) scrolls = scrolls.parentElement;
            if (box.width && !scrolls && (box.left < -1 || box.right > width + 1)) found.push(`${element.outerHTML.slice(0, 100)} in ${element.closest("[id]")?.id} ends at ${box.right}`);
        }
    }
    return found;
}
"""


def faint(page: Any, *roots: str) -> list[str]:
    """Texts with less contrast than WCAG 2.2 AA wants, below these CSS selectors: 4.5 to 1, large ones 3."""
    found: list[str] = page.evaluate(_CONTRAST, list(roots))
    return found


def nameless(page: Any, *roots: str) -> list[str]:
    """Controls that a screen reader has no name for."""
    found: list[str] = page.evaluate(_NAMELESS, list(roots))
    return found


def twice(page: Any, part: str) -> list[str]:
    """Ids that are there more than once, of those that contain ``part``."""
    found: list[str] = page.evaluate(_TWICE, part)
    return found


def outside(page: Any, *roots: str) -> list[str]:
    """What is wider than the screen, and controls that lie beside it."""
    found: list[str] = page.evaluate(_OUTSIDE, list(roots))
    return found
