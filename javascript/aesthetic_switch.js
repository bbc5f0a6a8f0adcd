// The switch in the accordion's header is on when an embedding is named: picked, pasted, or by a button elsewhere.

function aestheticTurnOn(id, name) {
    const accordion = gradioApp().getElementById(id);
    const box = accordion && (accordion.visibleCheckbox || accordion.querySelector("[id$=_enabled] input"));
    if (name && name !== "None" && box && !box.checked) {
        if (accordion.visibleCheckbox) inputAccordionChecked(id, true);
        else box.click();
    }
    return [];
}

// The header of an accordion takes no focus by itself.
function aestheticFocusable(header) {
    header.tabIndex = 0;
    header.setAttribute("role", "button");
    header.addEventListener("keydown", (event) => {
        if (event.target === header && (event.key === "Enter" || event.key === " ")) {
            event.preventDefault();
            header.click();
        }
    });
}

// An embedding that the page begins with is on as well.
onUiLoaded(() => {
    for (const tab of ["txt2img", "img2img"]) {
        const id = `script_${tab}_aesthetic_embeddings`;
        gradioApp().querySelectorAll(`#${id}_accordion .label-wrap`).forEach(aestheticFocusable);
        const field = gradioApp().querySelector(`#${id}_embedding input`);
        const box = gradioApp().getElementById(`${id}_accordion-visible-checkbox`);
        if (box) box.setAttribute("aria-label", "Aesthetic Gradients");
        if (field) aestheticTurnOn(`${id}_accordion`, field.value);
    }
});
