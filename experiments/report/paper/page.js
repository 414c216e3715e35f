// A click on a figure shows it over the whole window; another click, or Escape, closes it.
const dialog = document.body.appendChild(document.createElement("dialog"));
const large = dialog.appendChild(document.createElement("img"));
dialog.addEventListener("click", () => dialog.close());
for (const image of document.querySelectorAll("figure img")) {
  image.tabIndex = 0;
  const show = () => { large.src = image.src; large.alt = image.alt; dialog.showModal(); };
  image.addEventListener("click", show);
  image.addEventListener("keydown", (event) => { if (event.key === "Enter") show(); });
}
