// Tooltips of the accordion. Their texts come with the page, from the table that defines the controls.

function aestheticHints() {
    const root = typeof gradioApp === "function" ? gradioApp() : document;
    root.querySelectorAll("[data-aesthetic-hints]").forEach((holder) => {
        const hints = JSON.parse(holder.dataset.aestheticHints);
        for (const [id, text] of Object.entries(hints)) {
            const control = root.querySelector(`#${CSS.escape(id)}`);
            if (control && control.title !== text) control.title = text;
        }
    });
}

if (typeof onUiLoaded === "function") onUiLoaded(aestheticHints);
else window.addEventListener("load", aestheticHints);
