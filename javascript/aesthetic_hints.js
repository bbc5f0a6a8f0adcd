// Tooltips of the accordion. Their texts come with the page, from the table that defines the controls.

let aestheticHinted = [];

function aestheticHints() {
    const root = typeof gradioApp === "function" ? gradioApp() : document;
    aestheticHinted = [];
    root.querySelectorAll("[data-aesthetic-hints]").forEach((holder) => {
        for (const [id, text] of Object.entries(JSON.parse(holder.dataset.aestheticHints))) {
            const control = root.querySelector(`#${CSS.escape(id)}`);
            if (control) aestheticHinted.push([control, text]);
        }
    });
    aestheticHint();
}

// The WebUI gives every part without a title one by its text: "None" would say "Do not do anything special".
function aestheticHint() {
    for (const [control, text] of aestheticHinted) {
        for (const part of [control, ...control.querySelectorAll("span, button, p, input, li")]) {
            if (!part.title) part.title = text;
        }
    }
}

if (typeof onUiLoaded === "function") {
    onUiLoaded(aestheticHints);
    onUiUpdate(aestheticHint);
} else {
    window.addEventListener("load", aestheticHints);
}
