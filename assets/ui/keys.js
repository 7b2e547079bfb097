() => {
  // Keyboard shortcuts, the dialog that lists them, and the tour of the first visit. Gradio runs this when the page has loaded.
  const TOURED = "controlnext-toured";
  const seen = (element) => element && element.offsetParent !== null;
  const button = (ids) => ids.map((id) => document.getElementById(id)).find((one) => seen(one) && !one.disabled);
  const typing = (target) => target.closest("textarea, [contenteditable='true'], input:not([type=checkbox], [type=range], [type=radio])");
  const choosing = (target) => target.closest("input, select, video, [role=tab], [role=slider], [role=listbox], [aria-expanded=true], canvas");
  const opened = () => document.querySelector("dialog[open]");

  function step(by) {
    const gallery = document.getElementById("cnx-gallery");
    if (!seen(gallery)) return false;
    const small = [...gallery.querySelectorAll(".thumbnails button")];
    if (!small.length) {
      const first = gallery.querySelectorAll(".grid-container button");
      if (!first.length) return false;
      first[by > 0 ? 0 : first.length - 1].click();
      return true;
    }
    const at = small.findIndex((one) => one.classList.contains("selected"));
    small[(at + by + small.length) % small.length].click();
    return true;
  }

  function pressed(event) {
    const { key, target } = event;
    if (opened()) return false;
    if (key === "Enter" && (event.ctrlKey || event.metaKey)) {
      const start = button(["cnx-generate", "cnx-animate"]);
      if (!start) return false;
      target.blur(); // so that the field hands its value over first
      setTimeout(() => start.click(), 0);
      return true;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    if (key === "Escape") {
      const stop = button(["cnx-stop", "cnx-video-stop"]);
      if (!stop || target.closest("[aria-expanded=true]")) return false;
      stop.click();
      return true;
    }
    if (typing(target)) return false;
    if (key === "?") {
      document.getElementById("cnx-keys").showModal();
      return true;
    }
    if (key === "ArrowRight" || key === "ArrowLeft") return !choosing(target) && step(key === "ArrowRight" ? 1 : -1);
    return false;
  }

  function tour(number) {
    const dialog = document.getElementById("cnx-tour");
    const steps = [...dialog.querySelectorAll("li")];
    document.querySelectorAll(".cnx-toured").forEach((one) => one.classList.remove("cnx-toured"));
    if (number >= steps.length) {
      dialog.close();
      return;
    }
    steps.forEach((one, index) => (one.hidden = index !== number));
    dialog.dataset.step = number;
    dialog.querySelector("[data-next]").textContent = number + 1 < steps.length ? "Next" : "Start";
    document.querySelector(steps[number].dataset.place)?.classList.add("cnx-toured");
    if (!dialog.open) dialog.showModal();
  }

  // What Gradio leaves out for keyboards and screen readers: names of buttons that are pictures, roles of labelled places.
  function name() {
    document.querySelectorAll("button:not([aria-label], [title])").forEach((one) => {
      if (one.textContent.trim() || !one.querySelector("img, video, canvas, svg")) return;
      const label = one.closest(".block")?.querySelector("[data-testid=block-label], [data-testid=block-info]")?.textContent.trim();
      one.setAttribute("aria-label", label || "Picture");
    });
    // Gradio names each radio button differently, which keeps arrows from moving between those of one choice.
    document.querySelectorAll(".block:has(input[type=radio])").forEach((block) => {
      const radios = [...block.querySelectorAll("input[type=radio]")];
      radios.forEach((one) => { if (one.name !== radios[0].name) one.name = radios[0].name; });
    });
    document.querySelectorAll("pre:not([tabindex])").forEach((one) => (one.tabIndex = 0)); // code that scrolls on a phone
    document.querySelectorAll("div[aria-label]:not([role])").forEach((one) => one.setAttribute("role", "group"));
  }
  let asked = false;
  const later = () => {
    if (asked) return;
    asked = true;
    setTimeout(() => { asked = false; name(); }, 100);
  };
  new MutationObserver(later).observe(document.body, { childList: true, subtree: true });
  name();

  document.addEventListener("keydown", (event) => {
    if (!event.defaultPrevented && !event.isComposing && pressed(event)) event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    const { target } = event;
    if (target.closest("[data-open]")) document.getElementById(target.closest("[data-open]").dataset.open).showModal();
    else if (target.closest("[data-tour]")) { opened()?.close(); tour(0); }
    else if (target.closest("[data-next]")) tour(Number(target.closest("dialog").dataset.step) + 1);
    else if (target.closest("[data-close]")) target.closest("dialog").close();
  });
  const first = () => {
    const dialog = document.getElementById("cnx-tour");
    if (!dialog) return setTimeout(first, 200);
    dialog.addEventListener("close", () => {
      document.querySelectorAll(".cnx-toured").forEach((one) => one.classList.remove("cnx-toured"));
      try { localStorage.setItem(TOURED, "yes"); } catch { /* a browser that keeps nothing shows it again */ }
    });
    let toured = "yes";
    try { toured = localStorage.getItem(TOURED); } catch { /* as above */ }
    if (!toured) tour(0);
  };
  first();
}
