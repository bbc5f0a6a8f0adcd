// The tab "Create aesthetic embedding": starts its jobs with the WebUI's progress bar, and shows the tab.

function aestheticJob(id, args) {
    args[0] = randomId();
    const place = gradioApp().getElementById(id);
    requestProgress(args[0], place, null, () => {});
    // The WebUI hangs its bar over the top edge, where it would cover the tabs.
    const bar = place.parentNode.querySelector(".progressDiv");
    Object.assign(bar.style, {position: "relative", top: "0"});
    return args;
}

function aestheticCreate(...args) {
    return aestheticJob("aesthetic_create_progress", args);
}

function aestheticPictures(...args) {
    return aestheticJob("aesthetic_create_pictures_progress", args);
}

function aestheticShowTab() {
    const title = "Create aesthetic embedding";
    const tab = Array.from(gradioApp().querySelectorAll("#tabs > .tab-nav button")).find((b) => b.innerText.trim() === title);
    if (tab) tab.click();
}

// Has the WebUI load a checkpoint, as its cards do.
function aestheticLoad(title) {
    if (title) selectCheckpoint(title);
    return [];
}
