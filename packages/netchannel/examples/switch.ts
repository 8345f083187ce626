import { createSwitch } from "@x/netchannel";
import { openLink } from "@x/netchannel/node";

// Two virtual machines and a capture of everything they say:
//   qemu-system-x86_64 -netdev stream,id=n,server=off,addr.type=unix,addr.path=/run/vm0.sock …
const bridge = createSwitch({ now: () => performance.now() });
for (const url of process.argv.slice(2)) bridge.add(await openLink(url));
console.log(`${bridge.ports.length} ports`);
if (bridge.ports.length === 0) bridge.close();
