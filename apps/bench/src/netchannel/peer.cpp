// The C and C++ sides of the netchannel comparisons, one program:
//   spsc BYTES BATCH CAPACITY WINDOW_MS WANTED BUDGET_MS
//                                 messages a second through a single-producer ring with memcpy on both sides, the
//                                 median of windows in which both threads ran all the time; how many; of how many
//   pingpong COUNT                median microseconds of a round trip through two atomics
//   flood HOST PORT COUNT PPS [FROM]  sends 64-byte UDP datagrams with sendmmsg, PPS 0 for all it can
//   udp PORT COUNT                receives with recvmmsg, prints CPU microseconds a datagram
//   tap NAME                      receives with read and poll until killed
//   slices SLICES COUNT PPS [INTERFACE HOST PID]…
//                                 sends COUNT datagrams through each interface in turn, SLICES times; a line a turn: the
//                                 CPU microseconds a packet that the process behind the interface took
//   packet IFACE COUNT            receives with recvmmsg on a packet socket, prints the same
//   echo NAME ADDRESS             answers ARP and ping on a TAP until killed
//   forward NAME NAME NETNS       moves frames between two TAPs with offload headers until killed
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cerrno>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

using Clock = std::chrono::steady_clock;
static double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }
static double cpu() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  return use.ru_utime.tv_sec * 1e6 + use.ru_utime.tv_usec + use.ru_stime.tv_sec * 1e6 + use.ru_stime.tv_usec;
}
static void die(const char *what) { perror(what); exit(1); }

struct Ring {
  alignas(128) std::atomic<uint32_t> head{0};
  alignas(128) std::atomic<uint32_t> tail{0};
  alignas(128) uint8_t data[1 << 21];
};
static Ring ring;

static double ranFor(pid_t thread) {
  timespec time{};
  return clock_gettime((~thread << 3) | 6, &time) == 0 ? time.tv_sec * 1e3 + time.tv_nsec / 1e6 : 0;
}
/** Keeps the compiler from leaving out copies nobody looks at. */
static void used(const void *memory) { asm volatile("" : : "r"(memory) : "memory"); }

static void spsc(uint32_t bytes, int batch, uint32_t capacity, double windowMs, size_t wanted, double budgetMs) {
  const uint32_t record = (8 + bytes + 7) & ~7u;
  std::vector<uint8_t> source(bytes, 1), target(bytes);
  std::atomic<pid_t> other{0};
  std::thread producer([&] {
    other = gettid();
    uint32_t position = 0, seen = 0;
    for (long sent = 0;; sent++) {
      uint32_t at = position & (capacity - 1), take = at + record > capacity ? capacity - at + record : record;
      if (position - seen + take > capacity) {
        ring.head.store(position, std::memory_order_release);
        while (position - (seen = ring.tail.load(std::memory_order_acquire)) + take > capacity) {}
      }
      if (take != record) {
        if (capacity - at >= 4) { int32_t wrap = -1; memcpy(ring.data + at, &wrap, 4); }
        position += capacity - at;
        at = 0;
      }
      memcpy(ring.data + at, &bytes, 4);
      used(source.data());
      memcpy(ring.data + at + 8, source.data(), bytes);
      position += record;
      if (sent % batch == batch - 1) ring.head.store(position, std::memory_order_release);
    }
  });
  while (other == 0) {}
  const pid_t own = gettid();
  std::vector<double> clean, all;
  double ran[2] = {ranFor(own), ranFor(other)};
  const double warm = ran[0] + 20;
  uint32_t position = 0, seen = 0;
  long seenCount = 0;
  auto begun = Clock::now(), started = begun;
  for (long got = 0;;) {
    if (position == seen) {
      seen = ring.head.load(std::memory_order_acquire);
      if (position == seen) {
        // The ring may hold less than a batch of long records.
        ring.tail.store(position, std::memory_order_release);
        continue;
      }
    }
    uint32_t at = position & (capacity - 1);
    int32_t length;
    memcpy(&length, ring.data + at, 4);
    if (length < 0) { position += capacity - at; continue; }
    memcpy(target.data(), ring.data + at + 8, length);
    used(target.data());
    position += record;
    if (++got % batch != 0) continue;
    ring.tail.store(position, std::memory_order_release);
    if (got % (batch * 8) != 0) continue;
    const double wall = since(started) * 1e3;
    if (wall < windowMs) continue;
    const double now[2] = {ranFor(own), ranFor(other)};
    all.push_back((got - seenCount) / wall * 1e3);
    if (now[0] > warm && std::min(now[0] - ran[0], now[1] - ran[1]) >= 0.97 * wall) clean.push_back(all.back());
    if (clean.size() >= wanted || since(begun) * 1e3 > budgetMs) break;
    seenCount = got;
    ran[0] = now[0];
    ran[1] = now[1];
    started = Clock::now();
  }
  std::sort(clean.begin(), clean.end());
  const double rate = clean.empty() ? *std::max_element(all.begin(), all.end()) : clean[clean.size() / 2];
  printf("%f %zu %zu\n", rate, clean.size(), all.size());
  fflush(stdout);
  _exit(0);
}

static void pingpong(long count) {
  std::thread other([&] {
    for (uint32_t turn = 1; turn <= count; turn++) {
      while (ring.head.load() != turn) {}
      ring.tail.store(turn);
    }
  });
  // In groups, as on the other sides.
  const long group = 50;
  std::vector<double> times(count / group);
  uint32_t turn = 0;
  for (double &time : times) {
    auto start = Clock::now();
    for (long index = 0; index < group; index++) {
      ring.head.store(++turn);
      while (ring.tail.load() != turn) {}
    }
    time = since(start) * 1e6 / group;
  }
  other.join();
  std::sort(times.begin(), times.end());
  printf("%f\n", times[times.size() / 2]);
}

const int SLOTS = 64;
static uint8_t memory[SLOTS][2048];
static mmsghdr messages[SLOTS];
static iovec vectors[SLOTS];
static void slots(size_t bytes) {
  for (int slot = 0; slot < SLOTS; slot++) {
    vectors[slot] = {memory[slot], bytes};
    messages[slot].msg_hdr.msg_iov = &vectors[slot];
    messages[slot].msg_hdr.msg_iovlen = 1;
  }
}

static int udpTo(const char *host, int port, int from) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(from);
  if (from != 0 && bind(fd, (sockaddr *)&to, sizeof to) < 0) die("bind");
  to.sin_port = htons(port);
  inet_pton(AF_INET, host, &to.sin_addr);
  if (connect(fd, (sockaddr *)&to, sizeof to) < 0) die("connect");
  return fd;
}

static void send(int fd, long count, double rate) {
  auto start = Clock::now();
  for (long sent = 0; sent < count;) {
    if (rate > 0 && since(start) * rate < sent) { usleep(50); continue; }
    int done = sendmmsg(fd, messages, std::min<long>(rate > 0 ? 16 : SLOTS, count - sent), 0);
    if (done > 0) sent += done;
    else if (errno == EAGAIN || errno == ENOBUFS || errno == ECONNREFUSED) usleep(50);
    else break;  // The receiver had enough, and its interface went with it.
  }
}

static void flood(const char *host, int port, long count, double rate, int from) {
  // On a busy machine the sender would be what is measured; whoever may not do this does without.
  setpriority(PRIO_PROCESS, 0, -10);
  int fd = udpTo(host, port, from);
  slots(64);
  auto start = Clock::now();
  double used = cpu();
  send(fd, count, rate);
  printf("%f %f\n", (cpu() - used) / count, count / since(start));
}

static double cpuOf(pid_t process) {
  clockid_t clock;
  timespec time{};
  if (clock_getcpuclockid(process, &clock) != 0 || clock_gettime(clock, &time) < 0) die("clock_getcpuclockid");
  return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

/** Packets the process behind a TAP has read. */
static long readFrom(const std::string &interface) {
  FILE *file = fopen(("/sys/class/net/" + interface + "/statistics/tx_packets").c_str(), "r");
  long count;
  if (file == nullptr || fscanf(file, "%ld", &count) != 1) die("tx_packets");
  fclose(file);
  return count;
}

struct Turn {
  std::string interface;
  pid_t process;
  int fd;
};

static void slices(int rounds, long count, double rate, int words, char **word) {
  setpriority(PRIO_PROCESS, 0, -10);
  slots(64);
  std::vector<Turn> turns;
  for (int at = 0; at + 2 < words; at += 3) turns.push_back({word[at], atoi(word[at + 2]), udpTo(word[at + 1], 9, 0)});
  for (int round = 0; round < rounds; round++) {
    for (Turn &turn : turns) {
      const long before = readFrom(turn.interface);
      const double used = cpuOf(turn.process);
      send(turn.fd, count, rate);
      long seen = before;
      // Until it has read what there was.
      int looks = 0;
      for (long now; (now = readFrom(turn.interface)) != seen || now == before; usleep(5000)) {
        if (++looks > 1000) { fprintf(stderr, "%s: nobody reads\n", turn.interface.c_str()); exit(1); }
        seen = now;
      }
      printf("%f ", (cpuOf(turn.process) - used) / (seen - before));
    }
    puts("");
  }
}

template <typename Receive> static void measure(int fd, long count, Receive receive) {
  long got = 0, before = -1;
  double used = 0;
  pollfd watched{fd, POLLIN, 0};
  while (got < count) {
    if (poll(&watched, 1, got == 0 ? 10000 : 1000) <= 0) break;
    got += receive();
    if (before < 0 && got >= count / 2) {
      used = cpu();
      before = got;
    }
  }
  printf("%f %ld\n", (cpu() - used) / std::max(1L, got - before), got);
}

static int tapFd(const char *name, int flags) {
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
  if (fd < 0) die("open");
  ifreq request{};
  request.ifr_flags = IFF_TAP | IFF_NO_PI | flags;
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (ioctl(fd, TUNSETIFF, &request) < 0) die("TUNSETIFF");
  int control = socket(AF_INET, SOCK_DGRAM, 0);
  ioctl(control, SIOCGIFFLAGS, &request);
  request.ifr_flags |= IFF_UP;
  if (ioctl(control, SIOCSIFFLAGS, &request) < 0) die("SIOCSIFFLAGS");
  close(control);
  if (flags & IFF_VNET_HDR) {
    int size = 12;
    ioctl(fd, TUNSETVNETHDRSZ, &size);
    ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN);
  }
  return fd;
}

static void echo(const char *name, const char *address) {
  int fd = tapFd(name, 0);
  uint32_t mine;
  inet_pton(AF_INET, address, &mine);
  const uint8_t mac[6] = {2, 0, 0, 0, 0, 99};
  uint8_t frame[2048];
  puts("ready");
  fflush(stdout);
  pollfd watched{fd, POLLIN, 0};
  for (;;) {
    ssize_t length = read(fd, frame, sizeof frame);
    if (length < 0) { poll(&watched, 1, -1); continue; }
    if (frame[12] == 8 && frame[13] == 6 && frame[21] == 1 && !memcmp(frame + 38, &mine, 4)) {
      memcpy(frame, frame + 6, 6);
      memcpy(frame + 32, frame + 22, 10);
      memcpy(frame + 6, mac, 6);
      memcpy(frame + 22, mac, 6);
      memcpy(frame + 28, &mine, 4);
      frame[21] = 2;
    } else if (frame[12] == 8 && frame[13] == 0 && frame[23] == 1 && frame[34] == 8) {
      memcpy(frame, frame + 6, 6);
      memcpy(frame + 6, mac, 6);
      uint32_t source;
      memcpy(&source, frame + 26, 4);
      memcpy(frame + 26, &mine, 4);
      memcpy(frame + 30, &source, 4);
      frame[34] = 0;
      uint32_t sum = 0;
      frame[36] = frame[37] = 0;
      for (ssize_t at = 34; at < length; at += 2) sum += (frame[at] << 8) | (at + 1 < length ? frame[at + 1] : 0);
      while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
      frame[36] = ~sum >> 8;
      frame[37] = ~sum;
    } else continue;
    if (write(fd, frame, length) < 0) {}
  }
}

static void forward(const char *first, const char *second, const char *space) {
  int fds[2];
  fds[0] = tapFd(first, IFF_VNET_HDR);
  int there = open((std::string("/var/run/netns/") + space).c_str(), O_RDONLY);
  if (setns(there, CLONE_NEWNET) < 0) die("setns");
  fds[1] = tapFd(second, IFF_VNET_HDR);
  puts("ready");
  fflush(stdout);
  static uint8_t frame[70000];
  pollfd watched[2] = {{fds[0], POLLIN, 0}, {fds[1], POLLIN, 0}};
  for (;;) {
    poll(watched, 2, -1);
    for (int side = 0; side < 2; side++) {
      for (int budget = 0; budget < 64; budget++) {
        ssize_t length = read(fds[side], frame, sizeof frame);
        if (length < 0) break;
        if (write(fds[1 - side], frame, length) < 0) {}
      }
    }
  }
}

int main(int argc, char **argv) {
  std::string role = argc > 1 ? argv[1] : "";
  if (role == "spsc") spsc(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), atof(argv[5]), atoi(argv[6]), atof(argv[7]));
  else if (role == "pingpong") pingpong(atol(argv[2]));
  else if (role == "flood") flood(argv[2], atoi(argv[3]), atol(argv[4]), atof(argv[5]), argc > 6 ? atoi(argv[6]) : 0);
  else if (role == "slices") slices(atoi(argv[2]), atol(argv[3]), atof(argv[4]), argc - 5, argv + 5);
  else if (role == "echo") echo(argv[2], argv[3]);
  else if (role == "forward") forward(argv[2], argv[3], argv[4]);
  else if (role == "udp") {
    int fd = socket(AF_INET, SOCK_DGRAM, 0), room = 1 << 22;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(atoi(argv[2]));
    if (bind(fd, (sockaddr *)&at, sizeof at) < 0) die("bind");
    slots(2048);
    puts("ready");
    fflush(stdout);
    measure(fd, atol(argv[3]), [&] { return std::max(0, recvmmsg(fd, messages, SLOTS, MSG_DONTWAIT, nullptr)); });
  } else if (role == "packet") {
    int fd = socket(AF_PACKET, SOCK_RAW, 0), room = 1 << 23;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    sockaddr_ll at{};
    at.sll_family = AF_PACKET;
    at.sll_protocol = htons(3);
    at.sll_ifindex = if_nametoindex(argv[2]);
    if (bind(fd, (sockaddr *)&at, sizeof at) < 0) die("bind");
    slots(2048);
    puts("ready");
    fflush(stdout);
    measure(fd, atol(argv[3]), [&] { return std::max(0, recvmmsg(fd, messages, SLOTS, MSG_DONTWAIT, nullptr)); });
  } else if (role == "tap") {
    int fd = tapFd(argv[2], 0);
    puts("ready");
    fflush(stdout);
    static uint8_t frame[2048];
    for (pollfd watched{fd, POLLIN, 0}; poll(&watched, 1, -1) > 0;) {
      for (int budget = 0; budget < 64 && read(fd, frame, sizeof frame) > 0; budget++) {}
    }
  } else return 2;
  return 0;
}
