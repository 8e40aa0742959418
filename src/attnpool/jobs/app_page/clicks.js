// A click on a map tells the place: x and y in parts of its width and height.
element.addEventListener("click", (event) => {
  const map = event.target.closest("[data-map]");
  if (!map) return;
  const edges = map.getBoundingClientRect();
  const part = (at, from, length) => Math.min(1, Math.max(0, (at - from) / length));
  trigger("click", { x: part(event.clientX, edges.left, edges.width), y: part(event.clientY, edges.top, edges.height) });
});
