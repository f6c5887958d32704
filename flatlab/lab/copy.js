// Puts the text of its model on the clipboard whenever `serial` counts up, and says whether it is there.

async function put(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages without https, other than localhost, have no clipboard object; the old command works there.
    const area = document.createElement("textarea");
    area.value = text;
    area.style.cssText = "position:fixed;opacity:0";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

function render({ model, el }) {
  const said = document.createElement("span");
  said.setAttribute("role", "status");
  said.className = "flatlab-copied";
  said.style.cssText = "color:var(--jp-ui-font-color1);line-height:32px";
  el.append(said);
  const copy = async () => {
    const done = await put(model.get("text"));
    said.textContent = done ? "copied" : "select the code and press Ctrl-C";
  };
  model.on("change:serial", copy);
  return () => model.off("change:serial", copy);
}

export default { render };
