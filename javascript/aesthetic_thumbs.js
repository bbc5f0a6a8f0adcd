// Thumbs under the galleries: which picture they are for.

function aestheticSelected() {
    const args = Array.from(arguments);
    const pictures = args[0] || [];
    const index = selected_gallery_index();
    const item = pictures[index < 0 ? pictures.length - 1 : index];
    args[0] = {count: pictures.length, index: index, item: item === undefined ? null : item};
    return args;
}
