() => {
    // What a page does by itself, in every host: called when it is loaded.
    const root = typeof gradioApp === "function" ? gradioApp() : document;
    if (root.aestheticPage) return [];
    root.aestheticPage = true;

    // What is typed into a list takes the place of what is chosen, instead of being put behind it ("Nonewarm").
    root.addEventListener("focusin", (event) => {
        const field = event.target;
        // Later, since the click that brings the focus puts the cursor afterwards.
        if (field.closest(".aesthetic-picker")) {
            setTimeout(() => document.activeElement === field && field.select(), 0);
        }
    });

    // Gradio 3 takes a typed name at a key alone; one that was put in whole would be seen and not count.
    root.addEventListener("focusout", (event) => {
        if (event.target.closest(".aesthetic-picker")) event.target.dispatchEvent(new KeyboardEvent("keyup"));
    });

    // Tables: a click chooses a row, a tick several; titles sort, and the words of a filter are sent when typing pauses.
    const field = (id) => root.querySelector(`#${CSS.escape(id)} textarea, #${CSS.escape(id)} input`);
    const kept = (id, nothing) => JSON.parse(field(id).value || nothing);
    const keep = (id, value) => {
        const text = field(id);
        text.value = JSON.stringify(value);
        text.dispatchEvent(new Event("input", {bubbles: true}));
    };
    const view = (id, change) => keep(`${id}_view`, {...kept(`${id}_view`, "{}"), ...change});

    const names = new Map();
    const choose = (table, row, others) => {
        const id = `${table.dataset.aestheticTable}_chosen`;
        const key = row.dataset.aestheticRow;
        const before = kept(id, "[]");
        const rest = others ? before.filter((one) => one !== key) : [];
        const now = others && before.includes(key) ? rest : [...rest, key];
        keep(id, now);
        table.querySelectorAll("[data-aesthetic-row]").forEach((one) => {
            const chosen = now.includes(one.dataset.aestheticRow);
            names.set(one.dataset.aestheticRow, one.dataset.aestheticName);
            one.classList.toggle("aesthetic-is-chosen", chosen);
            one.querySelector("[role=checkbox]").setAttribute("aria-checked", chosen);
        });
        const called = now.slice(0, 12).map((one) => names.get(one) || one).join(", ");
        table.querySelector("[data-aesthetic-chosen]").textContent = now.length
            ? `Chosen (${now.length}): ${called}${now.length > 12 ? "…" : ""}`
            : "Nothing is chosen: click a row, or tick several.";
    };

    root.addEventListener("click", (event) => {
        const table = event.target.closest(".aesthetic-table");
        if (!table) return;
        const id = table.dataset.aestheticTable;
        const sort = event.target.closest("[data-aesthetic-sort]");
        const page = event.target.closest("[data-aesthetic-page]");
        const row = event.target.closest("[data-aesthetic-row]");
        if (sort) {
            const column = sort.dataset.aestheticSort;
            const again = table.dataset.aestheticSorted === column && !table.dataset.aestheticDown;
            view(id, {sort: column, descending: again, page: 1});
        } else if (page) {
            view(id, {page: Number(page.dataset.aestheticPage)});
        } else if (row) {
            choose(table, row, event.target.matches("[role=checkbox]") || event.ctrlKey || event.metaKey || event.shiftKey);
        }
    });

    // Two pictures over each other: the handle says where the second begins.
    root.addEventListener("input", (event) => {
        if (event.target.matches("[data-aesthetic-slider]")) {
            event.target.parentNode.style.setProperty("--at", `${event.target.value}%`);
        }
    });

    let pause;
    root.addEventListener("input", (event) => {
        const filter = event.target.closest(".aesthetic-filter");
        if (!filter) return;
        clearTimeout(pause);
        const id = filter.id.replace(/_filter$/, "");
        pause = setTimeout(() => view(id, {words: event.target.value, page: 1}), 200);
    });
    return [];
}
