// Starts a namenode and a datanode that keep their files in a directory, and says where they answer HTTP and RPC.

import java.io.File;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.MiniDFSCluster;

public class Namenode {
  public static void main(String[] arguments) throws Exception {
    Configuration configuration = new Configuration();
    configuration.setBoolean("dfs.permissions.enabled", false);
    MiniDFSCluster cluster =
        new MiniDFSCluster.Builder(configuration, new File(arguments[0])).numDataNodes(1).build();
    cluster.waitActive();
    System.out.println("RPC is at port " + cluster.getNameNodePort());
    System.out.println("WebHDFS is at localhost:" + cluster.getNameNode().getHttpAddress().getPort());
    Thread.currentThread().join();
  }
}
