() => {
  // Gradio 6 passes the loading status of every component that any event ever had among its inputs or outputs on to that component
  // again at each message of every event: 0.7 s of script for a click on Generate. The events of this page show no such status. So none
  // is kept, and only the end of an event of few components is passed on, which takes back what a component itself says of a damaged
  // upload. Where a later Gradio has no such class, all is as it would be without this.
  const SOON = 200, PATIENCE = 150, FEW = 48;
  const file = () => performance.getEntriesByType("resource").map((entry) => entry.name).find((name) => /\/assets\/statustracker-[^/]*\.js$/.test(name));
  const drop = (kept) => {
    for (const [id, row] of Object.entries(kept)) if (row.show_progress === "hidden") delete kept[id];
  };
  const quicken = (own) => {
    const update = own.update;
    own.update = function (event) {
      drop(this.current);
      const number = event.fn_index, parts = this.fn_outputs[number].length + this.fn_inputs[number].length;
      const ended = event.status !== "pending" && event.status !== "generating" && parts <= FEW;
      if (ended || this.show_progress[number] !== "hidden") update.call(this, event);
    };
    window.cnxQuickStatus = true;
  };
  const look = async (tries) => {
    const address = file();
    if (!address) {
      if (tries) setTimeout(() => look(tries - 1), SOON);
      return;
    }
    const parts = new Set(Object.values(await import(address)).map((part) => part?.prototype));
    for (const own of parts) if (typeof own?.resolve_args === "function" && typeof own.update === "function") quicken(own);
  };
  look(PATIENCE).catch(() => {});
}
