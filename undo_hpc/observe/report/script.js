(function () {
  "use strict";
  var root = document.getElementById("examples");
  if (!root) return;
  var all = Array.prototype.slice.call(root.querySelectorAll(".example"));
  var buttons = Array.prototype.slice.call(document.querySelectorAll("[data-outcome]"));
  var pair = document.getElementById("pair"), find = document.getElementById("find");
  var more = document.getElementById("more"), count = document.getElementById("count");
  var outcome = "", shown = 10;
  document.getElementById("tools").hidden = false;
  function matches(item, wanted) {
    var words = find.value.trim().toLowerCase();
    return (!wanted || item.dataset.is === wanted) && (!pair || !pair.value || item.dataset.pair === pair.value) &&
      (!words || item.textContent.toLowerCase().indexOf(words) >= 0);
  }
  function draw() {
    var found = all.filter(function (item) { return matches(item, outcome); });
    buttons.forEach(function (b) {
      b.querySelector("span").textContent = all.filter(function (item) { return matches(item, b.dataset.outcome); }).length;
    });
    all.forEach(function (item) { item.hidden = true; });
    found.slice(0, shown).forEach(function (item) { item.hidden = false; });
    more.hidden = found.length <= shown;
    more.textContent = more.hidden ? "" : "Show " + Math.min(20, found.length - shown) + " more of " + (found.length - shown);
    count.textContent = found.length ? "" : "No example fits.";
  }
  buttons.forEach(function (button) {
    button.addEventListener("click", function () {
      outcome = button.dataset.outcome; shown = 10;
      buttons.forEach(function (b) { b.setAttribute("aria-pressed", String(b === button)); });
      draw();
    });
  });
  if (pair) pair.addEventListener("change", function () { shown = 10; draw(); });
  find.addEventListener("input", function () { shown = 10; draw(); });
  more.addEventListener("click", function () { shown += 20; draw(); });
  draw();
})();
