() => {
  // Puts the words of the browser's language into the page, from the tables that Gradio hands over. Gradio itself translates
  // some labels only; this does all of them, and what is written into the page later. Nothing is done in English.
  const language = (document.documentElement.lang || navigator.language).split("-")[0];
  const table = (window.gradio_config?.i18n_translations || {})[language];
  if (!table || language === "en" || window.cnxWords) return;
  window.cnxWords = true;
  const OWN = "textarea, input, pre, code, script, style, [contenteditable], .cnx-table, .json-holder"; // what people and files say
  const ATTRIBUTES = ["placeholder", "title", "aria-label"];
  const escaped = (text) => text.replace(/[.*+?^$()|[\]\\]/g, "\\$&");
  const patterns = Object.entries(table)
    .filter(([english]) => english.includes("{}"))
    .map(([english, other]) => [new RegExp(`^${escaped(english).replaceAll("{}", "(.+?)")}$`), other]);

  function translated(text) {
    const plain = text.trim().replace(/[ \t]+/g, " ");
    if (!plain) return null;
    if (Object.hasOwn(table, plain)) return table[plain];
    for (const [pattern, other] of patterns) {
      const found = pattern.exec(plain);
      if (found) { let index = 1; return other.replaceAll("{}", () => inside(found[index++])); }
    }
    return null;
  }

  // What stands in the place of a `{}` may be words of the page, too: "gamma 0.5, seed 3".
  const inside = (text) => text.split(", ").map((part) => translated(part) ?? part).join(", ");

  function put(node) {
    if (node.nodeType === Node.TEXT_NODE) {
      if (node.parentElement?.closest(OWN)) return;
      const other = translated(node.data);
      if (other !== null && other !== node.data.trim()) node.data = node.data.replace(node.data.trim(), () => other);
      return;
    }
    if (node.nodeType !== Node.ELEMENT_NODE) return;
    for (const name of ATTRIBUTES) attribute(node, name);
    if (!node.matches(OWN)) for (const child of node.childNodes) put(child);
  }

  function attribute(element, name) {
    const text = element.getAttribute(name);
    const other = text === null ? null : translated(text);
    if (other !== null && other !== text) element.setAttribute(name, other);
  }

  new MutationObserver((changes) => {
    for (const change of changes) {
      if (change.type === "attributes") attribute(change.target, change.attributeName);
      else if (change.type === "characterData") put(change.target);
      else for (const node of change.addedNodes) put(node);
    }
  }).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ATTRIBUTES });
  put(document.body);
}
