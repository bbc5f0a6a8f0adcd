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

    // Gradio 4 takes the first name of an earlier list at Enter where none has what is typed. The chosen one is shown again.
    root.addEventListener("keydown", (event) => {
        const list = event.target.closest(".aesthetic-listed-only");
        if (!list || event.key !== "Enter" || list.querySelector(".options li")) return;
        event.stopImmediatePropagation();
        event.preventDefault();
        event.target.blur();
    }, true);

    // Gradio 3 takes a typed name at a key alone; one that was put in whole would be seen and not count.
    root.addEventListener("focusout", (event) => {
        if (event.target.closest(".aesthetic-picker")) event.target.dispatchEvent(new KeyboardEvent("keyup"));
    });

    // Lists of embeddings: which do not fit the model, and small pictures of the rows in sight. Asked for when one is looked at.
    const known = {version: "", misfits: new Map(), pictures: new Map(), late: false};
    const shown = new Map();
    const wanted = new Set();
    let number = 0;
    let looking = false;
    let waiting = 0;
    let told = 0;
    const picker = (part) => (part && part.closest ? part.closest(".aesthetic-embeddings") : null);

    const ask = () => {
        if (waiting || !(looking || wanted.size) || !field("aesthetic_lists_ask")) return;
        looking = false;
        const pictures = [...wanted].slice(-50);
        pictures.forEach((name) => wanted.delete(name));
        waiting = setTimeout(() => aestheticAnswer(""), 10000);
        // Rows of an open list must not move.
        const still = Boolean(picker(document.activeElement));
        keep("aesthetic_lists_ask", {number: ++number, version: known.version, pictures, still});
    };
    window.aestheticAnswer = (text) => {
        const answer = JSON.parse(text || "{}");
        if (text && answer.number !== number) return [];
        clearTimeout(waiting);
        waiting = 0;
        told = Date.now();
        known.late = answer.late;
        known.version = answer.version || known.version;
        if (answer.misfits) {
            known.misfits = new Map(Object.entries(answer.misfits));
            known.pictures = new Map(Object.entries(answer.pictures));
        }
        for (const [name, url] of Object.entries(answer.shown || {})) shown.set(name + known.pictures.get(name), url);
        root.querySelectorAll(".aesthetic-embeddings").forEach(dressAll);
        ask();
        return [];
    };

    const sight = new IntersectionObserver((rows) => {
        for (const row of rows.filter((one) => one.isIntersecting)) {
            sight.unobserve(row.target);
            wanted.add(row.target.getAttribute("aria-label"));
        }
        ask();
    });
    const dress = (row) => {
        const name = row.getAttribute("aria-label");
        const misfit = known.misfits.get(name) || "";
        if ((row.dataset.aestheticMisfit || "") !== misfit) {
            row.dataset.aestheticMisfit = row.title = misfit;
            if (!misfit) delete row.dataset.aestheticMisfit;
        }
        const url = known.pictures.has(name) ? shown.get(name + known.pictures.get(name)) : "";
        const image = url ? `url("${url}")` : "";
        if (row.style.getPropertyValue("--aesthetic-picture") !== image) row.style.setProperty("--aesthetic-picture", image);
        if (url === undefined) sight.observe(row);
    };
    const dressAll = (list) => {
        list.toggleAttribute("data-aesthetic-pictured", known.pictures.size > 0);
        list.querySelectorAll("li").forEach(dress);
    };

    const watched = new WeakSet();
    const rows = new MutationObserver((changes) => {
        for (const change of changes) {
            const parts = change.type === "attributes" ? [change.target] : change.addedNodes;
            parts.forEach((part) => {
                if (part.nodeName === "LI") dress(part);
                else if (part.querySelectorAll) part.querySelectorAll("li").forEach(dress);
            });
        }
    });
    root.addEventListener("focusin", (event) => {
        const list = picker(event.target);
        if (!list) return;
        if (!watched.has(list)) {
            watched.add(list);
            rows.observe(list, {childList: true, subtree: true, attributes: true, attributeFilter: ["aria-label"]});
        }
        dressAll(list);
        looking = true;
        ask();
    });
    root.addEventListener("focusout", (event) => {
        if (!picker(event.target) || !known.late) return;
        looking = true;
        setTimeout(ask, 300);
    });
    // A mouse on its way to a list, which can still change; not at every turn, since gradio looks through its whole page.
    root.addEventListener("pointerover", (event) => {
        const around = event.target.closest("[id$=_accordion]");
        if (!around || around.contains(event.relatedTarget) || Date.now() - told < 2000) return;
        looking = looking || Boolean(around.querySelector(".aesthetic-embeddings"));
        ask();
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

    // What gradio leaves without a name for screen readers: the number beside a slider, and a picture that is a button. And
    // in gradio 3 the inside of some HTML has the id of the whole.
    const name = () => {
        const parts = "[id*=aesthetic_] input[data-testid=number-input], [id*=aesthetic_] .image-frame";
        for (const part of root.querySelectorAll(parts)) {
            const control = part.matches("input") ? part : part.closest("button");
            const said = part.closest("[id*=aesthetic_]").querySelector("label");
            if (control && said && !control.getAttribute("aria-label")) control.setAttribute("aria-label", said.innerText.trim());
        }
        for (const part of root.querySelectorAll("[id*=aesthetic_] .prose[id*=aesthetic_]")) {
            if (part.parentNode.closest(`#${CSS.escape(part.id)}`)) part.removeAttribute("id");
        }
    };
    let naming;
    new MutationObserver(() => {
        clearTimeout(naming);
        naming = setTimeout(name, 300);
    }).observe(document.body, {childList: true, subtree: true});
    name();

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
