document.title = "Gateway demo";
