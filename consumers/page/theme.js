// Before the first paint: what was chosen here, else what the system says.
const chosen = localStorage.getItem("goat-theme");
if (chosen) document.documentElement.dataset.theme = chosen;
