// The tab "Create aesthetic embedding": starts a job with the WebUI's progress bar, and shows the tab.

function aestheticCreate() {
    const args = Array.from(arguments);
    args[0] = randomId();
    requestProgress(args[0], gradioApp().getElementById("aesthetic_create_output"), null, () => {});
    return args;
}

function aestheticShowTab() {
    const title = "Create aesthetic embedding";
    const tab = Array.from(gradioApp().querySelectorAll("#tabs > .tab-nav button")).find((b) => b.innerText.trim() === title);
    if (tab) tab.click();
}
