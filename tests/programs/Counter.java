import java.io.*; import java.net.*; import java.util.concurrent.*; import java.util.concurrent.atomic.*;
public class Counter {
  public static void main(String[] args) throws Exception {
    AtomicLong ticks = new AtomicLong(), n = new AtomicLong();
    ScheduledExecutorService timer = Executors.newScheduledThreadPool(2);
    timer.scheduleAtFixedRate(ticks::incrementAndGet, 0, 5, TimeUnit.MILLISECONDS);
    ConcurrentHashMap<Long, String> map = new ConcurrentHashMap<>();
    ServerSocket server = new ServerSocket(Integer.parseInt(args[0]), 50, InetAddress.getByName("127.0.0.1"));
    while (true) {
      Socket s = server.accept();
      new Thread(() -> { try {
        BufferedReader in = new BufferedReader(new InputStreamReader(s.getInputStream()));
        while (in.readLine() != null) {
          long before = ticks.get();
          while (ticks.get() == before) Thread.sleep(1);
          long me = n.incrementAndGet();
          for (long i = 0; i < 1000; i++) map.put(me * 1000 + i, "value" + i);
          s.getOutputStream().write((me + "\n").getBytes());
        } } catch (Exception e) { e.printStackTrace(); } }).start();
    } } }
