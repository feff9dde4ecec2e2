"use strict";
// Shows what is true now: the page is asked for again, and the part that only tells is put in place of the old one.
(() => {
  const live = document.getElementById("live");
  const fresh = document.getElementById("fresh");
  const usual = 5000;
  let wait = usual;
  const again = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch("/console", { cache: "no-store", redirect: "error" });
        if (!answer.ok) throw new Error(String(answer.status));
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const told = page.getElementById("live");
        if (!told) throw new Error("no page");
        const at = document.activeElement && live.contains(document.activeElement) ? document.activeElement.id : "";
        live.replaceChildren(...told.childNodes);
        if (at) document.getElementById(at)?.focus({ preventScroll: true });
        if (document.body.classList.contains("old")) fresh.textContent = "It answers again.";
        else if (fresh.dataset.said !== "yes") { fresh.textContent = "Renewed every five seconds."; fresh.dataset.said = "yes"; }
        document.body.classList.remove("old");
        wait = usual;
      } catch {
        document.body.classList.add("old");
        fresh.textContent = "No answer: what you see is old.";
        wait = Math.min(wait * 2, 60000);
      }
    }
    setTimeout(again, wait);
  };
  setTimeout(again, usual);
})();
