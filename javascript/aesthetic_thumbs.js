// Thumbs under the galleries: which picture they are for.

function aestheticSelected() {
    const args = Array.from(arguments);
    const pictures = args[0] || [];
    const index = selected_gallery_index();
    const item = pictures[index < 0 ? pictures.length - 1 : index];
    args[0] = {count: pictures.length, index: index, item: item === undefined ? null : item};
    return args;
}

// A picture's twin without the taste: its seed, one picture, the accordion off; Generate; then the form says what it did.

function aestheticTwinOf(tab, values) {
    const args = aestheticSelected(...values);
    const script = gradioApp().querySelector(`#${tab}_script_container #script_list input`);
    args[0].script = script ? script.value : "";
    return args;
}

function aestheticTwinForm(tab, order) {
    const wanted = [
        [`#${tab}_seed input`, order.seed],
        [`#${tab}_batch_count input[type=number]`, 1],
        [`#${tab}_batch_size input[type=number]`, 1],
    ];
    if (order.subseed !== null) wanted.push([`#${tab}_subseed input`, order.subseed]);
    for (const id of [`#${tab}_prompt textarea`, "#hires_prompt textarea"]) {
        const field = gradioApp().querySelector(id);
        if (field) wanted.push([id, field.value.replace(/<aesthetic:[^<>]*>/g, "")]);
    }
    const changes = wanted.map(([id, value]) => [gradioApp().querySelector(id), "value", String(value)]);
    const accordion = `script_${tab}_aesthetic_embeddings_accordion`;
    const box = gradioApp().querySelector(`#${accordion}-checkbox input, #${accordion} [id$=_enabled] input`);
    return [...changes, [box, "checked", false]].filter(([field]) => field);
}

async function aestheticTwin(tab, text) {
    if (!text) return;
    const pause = (ms) => new Promise((done) => setTimeout(done, ms));
    const until = async (ready, ms) => {
        for (let waited = 0; !ready() && waited < ms; waited += 50) await pause(50);
    };
    const put = (field, name, value) => {
        field[name] = value;
        updateInput(field);
    };
    const interrupt = gradioApp().getElementById(`${tab}_interrupt`);
    const running = () => interrupt.style.display === "block";
    const info = gradioApp().getElementById(`html_info_${tab}`);
    const told = info.innerHTML;
    const changes = aestheticTwinForm(tab, JSON.parse(text));
    const before = changes.map(([field, name]) => [field, name, field[name]]);
    const back = (name) => before.filter((change) => change[1] === name).forEach((change) => put(...change));
    changes.forEach((change) => put(...change));
    await pause(300);
    gradioApp().getElementById(`${tab}_generate`).click();
    // By now the page has sent what the form says.
    await until(running, 5000);
    back("value");
    await until(() => !running(), 3600000);
    // As long as it takes, the header says that it is off.
    back("checked");
    await until(() => info.innerHTML !== told, 10000);
    gradioApp().getElementById(`${tab}_aesthetic_twin_made`).click();
}
